"""Options: frozen dataclasses that say once what an absl flag, a keyword argument and a saved flagfile all need.

A stage takes its options as a dataclass, so a test or a notebook builds them in Python; an entry point builds them from the
command line. Fields that are themselves option dataclasses are flattened: flags have no prefix, so names are unique.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Iterator, Sequence

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
}


def option(
    default: typing.Any,
    help: str,
    *,
    choices: Sequence[str] | None = None,
    lower: float | None = None,
    upper: float | None = None,
) -> typing.Any:
    """A dataclass field that is also a flag; its name and type are the field's.

    Args:
      default: value where the flag is not given.
      help: one sentence for `--help`; units and range included.
      choices: the values a string may take.
      lower: smallest value a number may take.
      upper: largest value a number may take.
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
            lines.append(
                f"--{field.name}={str(value).lower() if isinstance(value, bool) else value}\n"
            )
    return "".join(lines)


def drop_removed(arguments: Sequence[str], values: flags.FlagValues) -> list[str]:
    """The arguments of a command line without flags of earlier versions that changed nothing."""

    def is_removed(argument: str) -> bool:
        name, _, value = argument.removeprefix("--").partition("=")
        removed = argument.startswith("--") and name in _REMOVED and name not in values
        return removed and _REMOVED[name] in (None, value)

    return [each for each in arguments if not is_removed(each)]


def describe(cls: type) -> Iterator[tuple[str, str]]:
    """Yields (flag with its default, help) for every option, in the order of definition."""
    for field, _ in _leaves(cls):
        default = "" if field.default in (dataclasses.MISSING, None) else field.default
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
            yield field, _without_none(hints[field.name])


def _nested(cls: type, field: dataclasses.Field) -> type | None:
    kind = typing.get_type_hints(cls)[field.name]
    return kind if dataclasses.is_dataclass(kind) else None


def _without_none(kind: typing.Any) -> type:
    if isinstance(kind, types.UnionType):
        (kind,) = (part for part in typing.get_args(kind) if part is not type(None))
    return kind


def _define_string(field: dataclasses.Field, values: flags.FlagValues) -> None:
    help, choices = field.metadata["help"], field.metadata.get("choices")
    default = None if field.default is dataclasses.MISSING else field.default
    if choices:
        flags.DEFINE_enum(field.name, default, choices, help, flag_values=values)
    else:
        flags.DEFINE_string(field.name, default, help, flag_values=values)


def _define_bool(field: dataclasses.Field, values: flags.FlagValues) -> None:
    flags.DEFINE_boolean(field.name, field.default, field.metadata["help"], flag_values=values)


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
}
