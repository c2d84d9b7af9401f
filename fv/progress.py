"""The progress line of long work: count, rate and time left, on a terminal only."""

import tqdm


def progress(total: int, what: str, unit: str, initial: int = 0) -> tqdm.tqdm:
    """A progress line on stderr; nothing is shown where stderr is not a terminal.

    Args:
      total: how many units the work has.
      what: short name of the work, at the line's start.
      unit: name of one unit, as in 'image'.
      initial: units already done by an earlier run.
    """
    shown = dict(disable=None, dynamic_ncols=True, mininterval=0.5)  # None: where stderr is not a terminal
    return tqdm.tqdm(total=total, desc=what, unit=f" {unit}", initial=initial, **shown)
