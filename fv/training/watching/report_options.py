"""What a run shows of itself, and how often."""

import dataclasses

from fv.errors import UserError
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
    sample_pairs: int = option(
        8,
        "Validation pairs that TensorBoard shows with their scores, half of them genuine; 0 for none.",
        lower=0,
        upper=64,
    )
    profile_steps: str = option(
        "",
        "A,B: write a TensorBoard profile of the steps A to B, both included, the first step being 1; empty for none.",
    )

    def profiled(self, steps: int) -> tuple[int, int] | None:
        """The first and the last step of the profile, None for no profile.

        Raises:
          UserError: they are not two steps of a run of so many, the first not behind the last.
        """
        if not self.profile_steps:
            return None
        try:
            first, last = map(int, self.profile_steps.split(","))
        except ValueError:
            first, last = 0, 0
        if not 1 <= first <= last <= steps:
            wrong = f"--profile_steps={self.profile_steps} names no steps from 1 to --steps={steps}"
            raise UserError(f"{wrong}: give the first and the last, as in --profile_steps=10,15")
        return first, last
