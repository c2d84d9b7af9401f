"""Options: frozen dataclasses whose fields are absl flags, keyword arguments and saved flagfiles.

A stage takes its options as a dataclass. A test or a notebook builds it in Python, an entry point
from the command line. Fields that are options dataclasses themselves are flattened: flags have no
prefix, so names are unique.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence

from absl import flags

from fv.errors import UserError


def option(
    default: typing.Any,
    help: str,
    *,
    choices: Sequence[str] | None = None,
    lower: float | tuple[float, ...] | None = None,
    upper: float | tuple[float, ...] | None = None,
) -> typing.Any:
    """Makes a dataclass field that is also a flag, with the field's name and type.

    A tuple of floats is a flag of numbers separated by commas. Missing numbers at its end keep
    their defaults.

    Args:
      default: value if the flag is not given.
      help: one sentence for `--help`, with units and range.
      choices: values that a string may have.
      lower: smallest value of a number; for a tuple, one of each number.
      upper: largest value, likewise.
    """
    return dataclasses.field(
        default=default, metadata=dict(help=help, choices=choices, lower=lower, upper=upper)
    )


def required(help: str) -> typing.Any:
    """Makes a string field that has to be given on the command line."""
    return dataclasses.field(metadata=dict(help=help, required=True))


def group(cls: type) -> typing.Any:
    """Makes a field that holds another options dataclass, whose flags are added to these."""
    return dataclasses.field(default_factory=cls)


def define_flags(cls: type, values: flags.FlagValues) -> None:
    """Defines an absl flag in `values` for every option of the dataclass `cls`."""
    for field, kind in _flatten(cls):
        name, default, metadata = field.name, field.default, field.metadata
        given = dict(help=metadata["help"], flag_values=values)
        if default is dataclasses.MISSING:
            default = None
        if kind is tuple:
            flags.DEFINE(_NumbersParser(field), name, default, **given)
        elif kind is bool:
            flags.DEFINE_boolean(name, default, **given)
        elif kind is str and metadata.get("choices"):
            flags.DEFINE_enum(name, default, metadata["choices"], **given)
        elif kind is str:
            flags.DEFINE_string(name, default, **given)
        else:
            define = flags.DEFINE_integer if kind is int else flags.DEFINE_float
            bounds = dict(lower_bound=metadata["lower"], upper_bound=metadata["upper"])
            define(name, default, **given, **bounds)
            # NaN passes every bound.
            flags.register_validator(
                name, _is_finite, "has to be a finite number", flag_values=values
            )


def from_flags(cls: type, values: flags.FlagValues) -> typing.Any:
    """Builds `cls` from parsed flags.

    Raises:
      UserError: a required flag was not given.
    """
    hints, arguments = typing.get_type_hints(cls), {}
    for field in dataclasses.fields(cls):
        kind = hints[field.name]
        nested = dataclasses.is_dataclass(kind)
        value = from_flags(kind, values) if nested else values[field.name].value
        if value == "" and field.default is None:  # it takes back the value of a flagfile
            value = None
        if field.metadata.get("required") and value is None:
            raise UserError(f"--{field.name} is missing: {field.metadata['help']}")
        arguments[field.name] = value
    return cls(**arguments)


def parse(cls: type, lines: Iterable[str]) -> typing.Any:
    """Builds `cls` from the lines of `to_flagfile`.

    Raises:
      ValueError: a flag is unknown, or its value is not allowed.
    """
    values = flags.FlagValues()
    define_flags(cls, values)
    try:
        values(["", *lines])
    except flags.Error as error:
        raise ValueError(str(error)) from error
    return from_flags(cls, values)


def from_record(cls: type, fields: Mapping[str, typing.Any]) -> typing.Any:
    """Builds `cls` from the JSON of `dataclasses.asdict`; raises what `parse` raises."""
    given = fields.items()
    return parse(cls, [f"--{name}={to_text(value)}" for name, value in given if value is not None])


def to_flagfile(options: typing.Any) -> str:
    """Returns the text of a flagfile that gives the same options; it lacks flags that are None."""
    lines = []
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if dataclasses.is_dataclass(value):
            lines.append(to_flagfile(value))
        elif value is not None:
            lines.append(f"--{field.name}={to_text(value)}\n")
    return "".join(lines)


def to_text(value: typing.Any, lower: bool = True) -> str:
    """Returns the value of a flag as text; booleans in Python's spelling unless `lower`."""
    if isinstance(value, (tuple, list)):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) and lower else str(value)


def describe(cls: type) -> Iterator[tuple[str, str]]:
    """Yields (flag with its default, help) for every option, in the order of definition."""
    for field, _ in _flatten(cls):
        unset = field.default is dataclasses.MISSING or field.default is None
        default = "" if unset else to_text(field.default, lower=False)
        choices = field.metadata.get("choices")
        before = "Required: " if field.metadata.get("required") else ""
        after = f" One of {', '.join(choices)}." if choices else ""
        yield f"--{field.name}={default}", f"{before}{field.metadata['help']}{after}"


def _flatten(cls: typing.Any) -> Iterator[tuple[dataclasses.Field, typing.Any]]:
    """Yields every field, nested ones included, with str, bool, int, float or tuple as its type."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        kind = hints[field.name]
        if isinstance(kind, types.UnionType):  # X | None
            (kind,) = (part for part in typing.get_args(kind) if part is not types.NoneType)
        if dataclasses.is_dataclass(kind):
            yield from _flatten(kind)
        else:
            yield field, typing.get_origin(kind) or kind


def _is_finite(value: float | None) -> bool:
    return value is None or math.isfinite(value)


class _NumbersParser(flags.ArgumentParser):
    """Parses numbers separated by commas; missing ones at the end keep their defaults."""

    def __init__(self, field: dataclasses.Field):
        super().__init__()
        self._default: tuple[float, ...] = typing.cast(tuple, field.default)
        self._bounds = list(zip(field.metadata["lower"], field.metadata["upper"], strict=True))

    def parse(self, argument: str | tuple[float, ...]) -> tuple[float, ...]:
        if isinstance(argument, tuple):  # the default
            return argument
        given = tuple(map(float, argument.split(",")))
        if len(given) > len(self._default):
            raise ValueError(f"takes {len(self._default)} numbers at most")
        numbers = given + self._default[len(given) :]
        for number, (lower, upper) in zip(numbers, self._bounds, strict=True):
            if not lower <= number <= upper:
                raise ValueError(f"{number:g} is not from {lower:g} to {upper:g}")
        return numbers
