"""Reads the pickles of verification sets without `pickle`: no function is called.

Lists, tuples, bytes, booleans, integers and NumPy arrays of uint8 and bool are read, as Python 2
and 3 write them in protocols 0 to 5. All else is refused. Bytes stay in the file, and `Blob` says
where.

Source: the opcodes are those of CPython's pickletools.py.
"""

import codecs
import dataclasses
import io
from typing import IO, Any

from fv import files

_MOST_STEPS = 2_000_000  # bounds the memory; a set of 14,000 images takes 350,000
_LONGEST_TEXT = 64  # bytes of a name or a number; names of functions are shorter
_READ_BYTES = 1 << 16

# Sizes in bytes of the length that is in front of bytes or text.
_BYTES = {b"C": 1, b"U": 1, b"B": 4, b"T": 4, b"\x8e": 8, b"\x96": 8}
_TEXTS = {b"\x8c": 1, b"X": 4, b"\x8d": 8}
_INTEGERS = {b"K": 1, b"M": 2, b"J": 4}
_MEMO_SIZES = {b"q": 1, b"r": 4, b"h": 1, b"j": 4}
_LINES = {b"S": "escaped", b"V": "raw-unicode-escape"}
_CONSTANTS = {b"N": None, b"\x88": True, b"\x89": False}
_TUPLES = {b"\x85": 1, b"\x86": 2, b"\x87": 3}
_LATIN_1 = (b"latin1", b"latin-1")
_SHOWN = 60  # characters of a name in a message


class BadPickle(Exception):
    """The pickle is damaged, or holds something else than a verification set; says what."""


@dataclasses.dataclass(frozen=True, slots=True)
class Blob:
    """Bytes or text in the file.

    Attributes:
      offset: of the first byte in the file.
      length: in the file, in bytes.
      form: how they are written: raw, escaped, or an encoding of text. Text stands for the bytes
        of its Latin-1, as protocols 0 to 2 of Python 3 write bytes.
    """

    offset: int
    length: int
    form: str = "raw"

    def decode(self, data: bytes) -> bytes:
        """The bytes that `data`, read from this place, stands for.

        Raises:
          ValueError: it does not stand for bytes.
        """
        if self.form == "raw":
            return data
        if self.form == "escaped":
            if len(data) < 2 or data[:1] != data[-1:] or data[:1] not in (b"'", b'"'):
                raise ValueError("a string without quotes")
            return codecs.escape_decode(data[1:-1])[0]
        return data.decode(self.form, "surrogatepass").encode("latin-1")


@dataclasses.dataclass
class Array:
    """A NumPy array of uint8 (`dtype` u1) or bool (b1)."""

    dtype: str = ""
    shape: tuple = ()
    data: Blob | None = None


@dataclasses.dataclass(frozen=True)
class _Name:
    """A class or function that the pickle names; it is never called."""

    name: str


@dataclasses.dataclass(frozen=True)
class _Dtype:
    name: str


def load(path: str) -> Any:
    """Reads a pickle of lists, tuples, booleans, integers, `Blob` and `Array`.

    Raises:
      BadPickle: it is damaged, or holds something else.
      OSError: the file cannot be read.
    """
    size = files.size(path)
    file = io.BytesIO(files.read_bytes(path)) if files.is_remote(path) else files.open_bytes(path)
    with file:
        try:
            return _Machine(file, size).run()
        except (IndexError, KeyError, TypeError, AttributeError, ValueError) as error:
            raise BadPickle(f"byte {file.tell():,} makes no sense: it is damaged") from error


class _Machine:
    """The stack machine of a pickle."""

    def __init__(self, file: IO[bytes], size: int):
        self._file, self._size = file, size
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        for _ in range(_MOST_STEPS):
            code = self._take(1)
            if code == b".":
                return self._stack.pop()
            if not self._push(code):
                self._combine(code)
        raise BadPickle(f"it has more than {_MOST_STEPS:,} steps, too many for a verification set")

    def _push(self, code: bytes) -> bool:
        """Takes a step that puts a value on the stack; False if the code is not of that kind."""
        stack = self._stack
        if code in _BYTES or code in _TEXTS:
            length = self._number((_BYTES | _TEXTS)[code])
            stack.append(Blob(self._skip(length), length, "utf-8" if code in _TEXTS else "raw"))
        elif code in _LINES:
            start = self._file.tell()
            stack.append(Blob(start, self._skip_line(), _LINES[code]))
        elif code in _CONSTANTS:
            stack.append(_CONSTANTS[code])
        elif code in _INTEGERS:
            stack.append(self._number(_INTEGERS[code], signed=code == b"J"))
        elif code == b"\x8a":
            stack.append(self._number(self._number(1), signed=True))
        elif code in (b"I", b"L"):
            text = self._line().rstrip(b"L")
            stack.append({b"00": False, b"01": True}.get(text, int(text)))  # else a number
        elif code in (b"(", b"]", b")"):
            self._marks += [len(stack)] if code == b"(" else []
            stack.extend({b"(": (), b"]": ([],), b")": ((),)}[code])
        elif code in (b"g", b"h", b"j"):
            stack.append(self._memo[self._memo_key(code)])
        elif code == b"c":
            stack.append(_find_name(self._line(), self._line()))
        else:
            return False
        return True

    def _combine(self, code: bytes) -> None:
        """Takes a step that makes one value of several, or none."""
        stack = self._stack
        if code in (b"l", b"t"):
            items = self._pop_to_mark()
            stack.append(items if code == b"l" else tuple(items))
        elif code in _TUPLES:
            count = _TUPLES[code]
            stack[-count:] = [tuple(stack[-count:])]
        elif code in (b"a", b"e"):
            items = [stack.pop()] if code == b"a" else self._pop_to_mark()
            if not isinstance(stack[-1], list):
                raise ValueError("items for no list")
            stack[-1].extend(items)
        elif code in (b"p", b"q", b"r", b"\x94"):
            self._memo[len(self._memo) if code == b"\x94" else self._memo_key(code)] = stack[-1]
        elif code in (b"\x80", b"\x95"):  # protocol, frame
            self._skip(1 if code == b"\x80" else 8)
        elif code == b"\x93":
            name, module = self._text(stack.pop()), self._text(stack.pop())
            stack.append(_find_name(module, name))
        elif code == b"R":
            arguments, name = stack.pop(), stack.pop()
            stack.append(self._apply(name.name, arguments))
        elif code == b"b":
            state = stack.pop()
            if isinstance(stack[-1], Array):
                _, shape, dtype, _, data = state
                stack[-1].dtype, stack[-1].shape, stack[-1].data = dtype.name, shape, data
            elif not isinstance(stack[-1], _Dtype):
                raise ValueError("a state for no array")
        else:
            raise BadPickle(
                f"byte {self._file.tell():,} is no part of a verification set ({code!r})"
            )

    def _apply(self, name: str, arguments: tuple) -> Any:
        """What a call to one of `_NAMES` would give."""
        if name == "encode":  # of text, which stands for bytes
            text, encoding = arguments
            if text.form == "raw" or self._text(encoding) not in _LATIN_1:
                raise ValueError("an encoding other than Latin-1")
            return text
        if name in ("bytes", "bytearray"):
            return arguments[0] if arguments else Blob(0, 0)
        if name == "_reconstruct":
            return Array()
        if name == "_frombuffer":
            data, dtype, shape, _ = arguments
            return Array(dtype.name, shape, data)
        if name == "dtype":
            return _Dtype(self._text(arguments[0]).decode())
        if name == "scalar" and arguments[0].name == "b1":
            return bool(self._text(arguments[1])[0])
        raise ValueError(f"a call to {name}")

    def _take(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) < count:
            raise BadPickle("it is cut short")
        return data

    def _number(self, size: int, signed: bool = False) -> int:
        return int.from_bytes(self._take(size), "little", signed=signed)

    def _skip(self, count: int) -> int:
        """Passes over bytes and returns the offset of the first."""
        start = self._file.tell()
        if start + count > self._size:
            raise BadPickle("it is cut short")
        self._file.seek(start + count)
        return start

    def _skip_line(self) -> int:
        """Passes over a line of any length, and returns its length without the line end."""
        length = 0
        while part := self._file.readline(_READ_BYTES):
            length += len(part)
            if part.endswith(b"\n"):
                return length - 1
        raise BadPickle("it is cut short")

    def _line(self) -> bytes:
        line = self._file.readline(_LONGEST_TEXT + 1)
        if not line.endswith(b"\n"):
            raise BadPickle(
                "it is cut short" if len(line) <= _LONGEST_TEXT else "a name is too long"
            )
        return line[:-1]

    def _text(self, blob: Blob) -> bytes:
        """The content of a short string."""
        if blob.length > _LONGEST_TEXT:
            raise ValueError("a long name")
        position = self._file.tell()
        self._file.seek(blob.offset)
        data = blob.decode(self._take(blob.length))
        self._file.seek(position)
        return data

    def _memo_key(self, code: bytes) -> int:
        return self._number(_MEMO_SIZES[code]) if code in _MEMO_SIZES else int(self._line())

    def _pop_to_mark(self) -> list:
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items


_NAMES = {
    *("_codecs encode", "numpy dtype", "numpy ndarray"),
    *("numpy.core.multiarray _reconstruct", "numpy.core.multiarray scalar"),
    "numpy.core.numeric _frombuffer",
    *("__builtin__ bytes", "builtins bytes", "__builtin__ bytearray", "builtins bytearray"),
}


def _find_name(module: bytes, name: bytes) -> _Name:
    full = f"{module.decode()} {name.decode()}".replace("numpy._core.", "numpy.core.")
    if full not in _NAMES:
        shown = "".join(filter(str.isprintable, full.replace(" ", ".")[:_SHOWN]))
        raise BadPickle(f"it names {shown}, and may run any program where it is loaded by pickle")
    return _Name(name.decode())
