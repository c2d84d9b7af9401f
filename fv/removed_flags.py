"""Flags of earlier versions: flagfiles and records of their runs are still read."""

import typing
from collections.abc import Callable, Mapping, Sequence

from absl import flags

from fv import options
from fv.errors import UserError

# Removed flags, with the value that is now fixed; None where no value has an effect any more.
_REMOVED = {
    "hard_share": None,  # without --hard_tfrecords
    "hard_from": None,
    "hard_until": None,
    "decay_at": None,  # without --decay=piecewise
    "decay_by": None,
    "swa_period": "1",
    "contrastive_margin": "1.0",
    "triplet_margin": "0.2",
    "softmax_margin_steps": "",
    "base_batch_size": "256",
    "average_momentum": "0.999",
    "swa_start": "0.75",
    "synthetic_input": "false",
    "tpu": "",
    "shuffle_buffer": None,
    "sample_pairs": None,
    "profile_steps": None,
    "checkpoint_minutes": None,
    "keep_checkpoints": None,
    "keep_best": None,
    "batch_size": None,  # of fv.evaluate
}


def translate(arguments: Sequence[str], values: flags.FlagValues) -> list[str]:
    """Translates the arguments of an earlier version's command line to flags of this version.

    A removed flag is dropped if its value has no effect or is the fixed one. Other removed flags
    stay, so that absl refuses them. A flag that was merged into another one is replaced.

    Args:
      arguments: flags as --name=value, and other arguments.
      values: the flags that this version defines.

    Raises:
      UserError: the flag that replaces several old ones cannot express their values.
    """
    kept: list[str] = []
    seen: dict[str, str] = {}
    for argument in arguments:
        name, _, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--"):
            kept.append(argument)
        elif name in values or name not in _REMOVED or _has_effect(name, value):
            seen[name] = value
            kept.append(_merge(name, seen, values) or argument)
    return kept


def from_record(cls: type, fields: Mapping[str, typing.Any]) -> typing.Any:
    """Builds options from the JSON of `dataclasses.asdict` in this or an earlier version.

    Values of removed fields are dropped; `find_lost_values` returns those that mattered.

    Raises:
      ValueError: a field is unknown, or its value is not allowed.
    """
    values = flags.FlagValues()
    options.define_flags(cls, values)
    arguments = [
        f"--{name}={options.to_text(value)}"
        for name, value in fields.items()
        if value is not None and (name in values or name not in _REMOVED)
    ]
    try:
        values(["", *translate(arguments, values)])
    except (flags.Error, UserError) as error:
        raise ValueError(str(error)) from error
    return options.from_flags(cls, values)


def find_lost_values(fields: Mapping[str, typing.Any]) -> dict[str, tuple[str, str]]:
    """Finds removed fields of a record whose value is not the one that is now fixed.

    Returns:
      (value in the record, fixed value) by name.
    """
    held = {
        name: options.to_text(value)
        for name, value in fields.items()
        if name in _REMOVED and value is not None
    }
    return {
        name: (value, str(_REMOVED[name]))
        for name, value in held.items()
        if _has_effect(name, value)
    }


def _has_effect(name: str, value: str) -> bool:
    """Whether a removed flag's value differs from the fixed one."""
    fixed = _REMOVED[name]
    if fixed is None or value == fixed:
        return False
    try:
        return float(value) != float(fixed)
    except ValueError:
        return True


def _merge(name: str, seen: Mapping[str, str], values: flags.FlagValues) -> str | None:
    """Returns the flag that replaces `name`, given the values seen so far; None if it stays."""
    for new, (names, merge) in _MERGED.items():
        removed = [each for each in names if each in seen and each not in values]
        if new in values and name in names and removed:
            return f"--{new}={merge(seen)}"
    return None


def _merge_scale(old: Mapping[str, str]) -> str:
    return f"{old.get('min_scale', '0.85')},{old.get('max_scale', '1.0')}"


def _merge_color_jitter(old: Mapping[str, str]) -> str:
    names = {"brightness": "0.15", "contrast": "0.2", "saturation": "0.0"}
    return ",".join(old.get(name, default) for name, default in names.items())


def _merge_degrade(old: Mapping[str, str]) -> str:
    blur, jpeg = (float(old[name]) if name in old else None for name in ("blur", "jpeg"))
    if blur is None:
        assert jpeg is not None
        return str(jpeg / 2.0)
    if jpeg not in (None, 2.0 * blur):
        raise UserError(
            f"the flags blur={blur} and jpeg={jpeg} are one flag now: give --degrade=S instead, "
            "which blurs by S and rounds by 2 x S"
        )
    return str(blur)


def _merge_softmax_margin(old: Mapping[str, str]) -> str:
    margin = old.get("softmax_margin", "0.1")
    return margin if "," in margin else f"{margin},{old['softmax_angular_margin']}"


def _merge_frozen_steps(old: Mapping[str, str]) -> str:
    frozen = old["freeze_backbone"] in ("", "true", "True")
    return "-1" if frozen else old.get("freeze_backbone_steps", "0")


def _merge_init_weights(old: Mapping[str, str]) -> str:
    source = old.get("init_weights", "none")
    return f"{source}@best" if old["init_checkpoint"] == "best" else source


def _merge_workers(old: Mapping[str, str]) -> str:
    if old.get("workers") or old.get("cluster") != "slurm":
        return old.get("workers", "")
    return f"slurm:{old['port']}" if "port" in old else "slurm"


def _merge_threshold_pairs(old: Mapping[str, str]) -> str:
    return old.get("threshold_pairs_csv") or old.get("threshold_pairs_file", "")


# Flags of this version that replace several old ones: their names, and how to merge the values.
_MERGED: dict[str, tuple[tuple[str, ...], Callable[[Mapping[str, str]], str]]] = {
    "scale": (("min_scale", "max_scale"), _merge_scale),
    "color_jitter": (("brightness", "contrast", "saturation"), _merge_color_jitter),
    "degrade": (("blur", "jpeg"), _merge_degrade),
    "softmax_margin": (("softmax_margin", "softmax_angular_margin"), _merge_softmax_margin),
    "freeze_backbone_steps": (("freeze_backbone", "freeze_backbone_steps"), _merge_frozen_steps),
    "init_weights": (("init_weights", "init_checkpoint"), _merge_init_weights),
    "threshold_pairs": (("threshold_pairs_file", "threshold_pairs_csv"), _merge_threshold_pairs),
    "workers": (("workers", "cluster", "port"), _merge_workers),
}
