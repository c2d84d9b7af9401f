"""Options: frozen dataclasses that say once what an absl flag, a keyword argument and a saved flagfile all need.

A stage takes its options as a dataclass, so a test or a notebook builds them in Python; an entry point builds them from the
command line. Fields that are themselves option dataclasses are flattened: flags have no prefix, so names are unique.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Iterator, Mapping, Sequence

from absl import flags

from fv.errors import UserError

# Flags of earlier versions, in the flagfiles of their runs, by the value that changed nothing; None is any value.
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


def _merge_scale(old: Mapping[str, str]) -> str:
    return f"{old.get('min_scale', '0.85')},{old.get('max_scale', '1.0')}"


def _merge_color_jitter(old: Mapping[str, str]) -> str:
    names = {"brightness": "0.15", "contrast": "0.2", "saturation": "0.0"}
    return ",".join(old.get(name, default) for name, default in names.items())


def _merge_degrade(old: Mapping[str, str]) -> str:
    blur, jpeg = (float(old[name]) if name in old else None for name in ("blur", "jpeg"))
    if blur is not None and jpeg is not None and jpeg != 2.0 * blur:
        raise UserError(
            f"the flags blur={blur} and jpeg={jpeg} are one flag now: give --degrade=S instead, "
            "which blurs by S and rounds by 2 x S"
        )
    return str(jpeg / 2.0 if blur is None else blur)


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


# Flags that took in flags of earlier versions: the names that make them up, and how the values do so.
_MERGED = {
    "scale": (("min_scale", "max_scale"), _merge_scale),
    "color_jitter": (("brightness", "contrast", "saturation"), _merge_color_jitter),
    "degrade": (("blur", "jpeg"), _merge_degrade),
    "softmax_margin": (("softmax_margin", "softmax_angular_margin"), _merge_softmax_margin),
    "freeze_backbone_steps": (("freeze_backbone", "freeze_backbone_steps"), _merge_frozen_steps),
    "init_weights": (("init_weights", "init_checkpoint"), _merge_init_weights),
    "threshold_pairs": (
        ("threshold_pairs_file", "threshold_pairs_csv"),
        _merge_threshold_pairs,
    ),
    "workers": (("workers", "cluster", "port"), _merge_workers),
}


def option(
    default: typing.Any,
    help: str,
    *,
    choices: Sequence[str] | None = None,
    lower: float | tuple[float, ...] | None = None,
    upper: float | tuple[float, ...] | None = None,
) -> typing.Any:
    """A dataclass field that is also a flag; its name and type are the field's.

    A tuple of floats is a flag of numbers with commas between them. Numbers left out at its end are
    as by default.

    Args:
      default: value where the flag is not given.
      help: one sentence for `--help`; units and range included.
      choices: the values a string may take.
      lower: smallest value a number may take; one of each number in a tuple.
      upper: largest value a number may take; likewise.
    """
    return dataclasses.field(
        default=default, metadata=dict(help=help, choices=choices, lower=lower, upper=upper)
    )


def required(help: str) -> typing.Any:
    """A string field that has to be given on the command line."""
    return dataclasses.field(metadata=dict(help=help, required=True))


def group(cls: type) -> typing.Any:
    """A field that holds another options dataclass, flattened into the same flags."""
    return dataclasses.field(default_factory=cls)


def define_flags(cls: type, values: flags.FlagValues) -> None:
    """Defines one absl flag in `values` for every option of the dataclass `cls`."""
    for field, kind in _leaves(cls):
        _DEFINERS[kind](field, values)


def from_flags(cls: type, values: flags.FlagValues) -> typing.Any:
    """Builds `cls` from parsed flags.

    Raises:
      UserError: a required flag was not given.
    """
    arguments = {}
    for field in dataclasses.fields(cls):
        nested = _nested(cls, field)
        arguments[field.name] = from_flags(nested, values) if nested else values[field.name].value
        if field.metadata.get("required") and arguments[field.name] is None:
            raise UserError(f"--{field.name} is missing: {field.metadata['help']}")
    return cls(**arguments)


def to_flagfile(options: typing.Any) -> str:
    """The text of a flagfile that `--flagfile` reads back into the same options; unset (None) options are left out."""
    lines = []
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if dataclasses.is_dataclass(value):
            lines.append(to_flagfile(value))
        elif value is not None:
            lines.append(f"--{field.name}={to_text(value)}\n")
    return "".join(lines)


def from_record(cls: type, fields: Mapping[str, typing.Any]) -> typing.Any:
    """Builds `cls` from what `dataclasses.asdict` gave, of this version or an earlier one, by way of JSON.

    Raises:
      ValueError: a field is unknown, or its value is not one that it takes.
    """
    values = flags.FlagValues()
    define_flags(cls, values)
    given = {
        name: value for name, value in fields.items() if name in values or name not in _REMOVED
    }
    arguments = [f"--{name}={to_text(value)}" for name, value in given.items() if value is not None]
    try:
        values(["", *drop_removed(arguments, values)])
    except (flags.Error, UserError) as error:
        raise ValueError(str(error)) from error
    return from_flags(cls, values)


def drop_removed(arguments: Sequence[str], values: flags.FlagValues) -> list[str]:
    """The arguments of a command line with those of earlier versions left out or replaced.

    A flag is left out where its value changed nothing, and replaced where another flag has taken it in.

    Raises:
      UserError: the flag that took them in cannot do what they say together.
    """
    kept: list[str] = []
    seen: dict[str, str] = {}
    for argument in arguments:
        name, _, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--"):
            kept.append(argument)
        elif name in values or name not in _REMOVED or _REMOVED[name] not in (None, value):
            seen[name] = value
            kept.append(_merge(name, seen, values) or argument)
    return kept


def _merge(name: str, seen: Mapping[str, str], values: flags.FlagValues) -> str | None:
    """The flag that replaces the flag `name`, given the values seen so far; None if that one stays."""
    for new, (names, merge) in _MERGED.items():
        removed = [each for each in names if each in seen and each not in values]
        if new in values and name in names and removed:
            return f"--{new}={merge(seen)}"
    return None


def describe(cls: type) -> Iterator[tuple[str, str]]:
    """Yields (flag with its default, help) for every option, in the order of definition."""
    for field, _ in _leaves(cls):
        unset = field.default is dataclasses.MISSING or field.default is None
        default = "" if unset else to_text(field.default, lower=False)
        choices = field.metadata.get("choices")
        before = "Required: " if field.metadata.get("required") else ""
        after = f" One of {', '.join(choices)}." if choices else ""
        yield f"--{field.name}={default}", f"{before}{field.metadata['help']}{after}"


def _leaves(cls: type) -> Iterator[tuple[dataclasses.Field, type]]:
    """Yields every plain field with its type, `X | None` reduced to X, nested options included."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        nested = _nested(cls, field)
        if nested:
            yield from _leaves(nested)
        else:
            kind = _without_none(hints[field.name])
            yield field, typing.get_origin(kind) or kind


def _nested(cls: type, field: dataclasses.Field) -> type | None:
    kind = typing.get_type_hints(cls)[field.name]
    return kind if dataclasses.is_dataclass(kind) else None


def _without_none(kind: typing.Any) -> type:
    if isinstance(kind, types.UnionType):
        (kind,) = (part for part in typing.get_args(kind) if part is not type(None))
    return kind


def to_text(value: typing.Any, lower: bool = True) -> str:
    """A flag's value as it can be given; booleans as Python writes them where not `lower`."""
    if isinstance(value, (tuple, list)):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) and lower else str(value)


def _define_string(field: dataclasses.Field, values: flags.FlagValues) -> None:
    help, choices = field.metadata["help"], field.metadata.get("choices")
    default = None if field.default is dataclasses.MISSING else field.default
    if choices:
        flags.DEFINE_enum(field.name, default, choices, help, flag_values=values)
    else:
        flags.DEFINE_string(field.name, default, help, flag_values=values)


def _define_bool(field: dataclasses.Field, values: flags.FlagValues) -> None:
    flags.DEFINE_boolean(field.name, field.default, field.metadata["help"], flag_values=values)


class _NumbersParser(flags.ArgumentParser):
    """Parses numbers with commas between them; those left out at the end are as by default."""

    def __init__(self, field: dataclasses.Field):
        super().__init__()
        self._default = field.default
        self._bounds = list(zip(field.metadata["lower"], field.metadata["upper"], strict=True))

    def parse(self, argument: str | tuple[float, ...]) -> tuple[float, ...]:
        if isinstance(argument, tuple):
            return argument
        given = tuple(map(float, argument.split(",")))
        if len(given) > len(self._default):
            raise ValueError(f"takes {len(self._default)} numbers at most")
        numbers = given + self._default[len(given) :]
        for number, (lower, upper) in zip(numbers, self._bounds, strict=True):
            if not lower <= number <= upper:
                raise ValueError(f"{number:g} is not from {lower:g} to {upper:g}")
        return numbers

    def flag_type(self) -> str:
        return "numbers"


class _NumbersSerializer(flags.ArgumentSerializer):
    def serialize(self, value: tuple[float, ...]) -> str:
        return to_text(value)


def _define_numbers(field: dataclasses.Field, values: flags.FlagValues) -> None:
    flags.DEFINE(
        _NumbersParser(field),
        field.name,
        field.default,
        field.metadata["help"],
        flag_values=values,
        serializer=_NumbersSerializer(),
    )


def _define_number(define: typing.Callable) -> typing.Callable:
    def define_number(field: dataclasses.Field, values: flags.FlagValues) -> None:
        bounds = dict(lower_bound=field.metadata["lower"], upper_bound=field.metadata["upper"])
        define(field.name, field.default, field.metadata["help"], flag_values=values, **bounds)
        flags.register_validator(
            field.name, _is_finite, "has to be a finite number", flag_values=values
        )

    return define_number


def _is_finite(value: float | None) -> bool:
    """Whether a flag's value is a number; bounds do not tell, for NaN is neither below nor above them."""
    return value is None or math.isfinite(value)


_DEFINERS = {
    str: _define_string,
    bool: _define_bool,
    int: _define_number(flags.DEFINE_integer),
    float: _define_number(flags.DEFINE_float),
    tuple: _define_numbers,
}
