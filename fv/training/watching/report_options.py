"""What a run shows of itself, and how often."""

import dataclasses

from fv.options import option


@dataclasses.dataclass(frozen=True)
class ReportOptions:
    """What a person watches."""

    log_every: int = option(
        20,
        "Steps between log entries (lines on stderr at most every 10 s); the device works through them without the host.",
        lower=1,
    )
    validate_every: int = option(200, "Steps between validations; 0 for only at the end.", lower=0)
