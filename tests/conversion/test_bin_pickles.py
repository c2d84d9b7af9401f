import contextlib
import os
import pickle
import struct
import tracemalloc

import numpy as np
import pytest

from fv.conversion import bin_pickles
from fv.conversion.bin_pickles import BadPickle

SOUND = pickle.dumps(([b"a" * 300, b"b" * 300], [True]), protocol=4)


class Call:
    """Calls a function where pickle loads it."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


def load(tmp_path, data):
    (tmp_path / "x.bin").write_bytes(data)
    return bin_pickles.load(str(tmp_path / "x.bin"))


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (Call(os.system, "touch called"), "system"),
        (Call(eval, "1"), "eval"),
        (Call(np.load, "x"), "load"),
        (Call(pickle.loads, b"N."), "loads"),
        (np.dtype, "dtype"),
    ],
)
def test_a_pickle_that_calls_a_function_is_refused_and_calls_none(
    tmp_path, monkeypatch, protocol, call, name
):
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps(([call], [True]), protocol)
    if call is np.dtype:  # the name alone is allowed, an object of it is no image
        assert load(tmp_path, data)[0][0].name == name
        return
    with pytest.raises(BadPickle, match=f"names .*{name}, and may run any program"):
        load(tmp_path, data)
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize(
    "held",
    [{1: 2}, {1}, 1.5, object(), frozenset(), complex(1, 2)],
)
def test_another_object_is_refused(tmp_path, held):
    for protocol in range(6):
        with pytest.raises(BadPickle):
            load(tmp_path, pickle.dumps(([held], [True]), protocol))


def test_a_pickle_cut_short_anywhere_is_refused(tmp_path):
    for end in range(len(SOUND)):
        with pytest.raises(BadPickle, match="cut short"):
            load(tmp_path, SOUND[:end])


def test_a_changed_byte_is_refused_or_read_but_never_a_bug(tmp_path):
    data = pickle.dumps(([np.arange(9, dtype=np.uint8)], [np.True_]), protocol=2)
    for at in range(len(data)):
        for value in (0, 40, 66, 82, 98, 113, 255):
            with contextlib.suppress(BadPickle):
                load(tmp_path, data[:at] + bytes([value]) + data[at + 1 :])


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"x.",  # bytes of 4 EB
        b"\x80\x02]r\xff\xff\xff\xff.",  # a memo of 4 billion entries
        b"I" + b"9" * 5000 + b"\n.",
        b"(" * 30_000,
        b"]" * 30_000 + b".",
        b"]\x94" * 30_000 + b".",
    ],
)
def test_memory_is_bounded_whatever_the_file_says(tmp_path, monkeypatch, data):
    monkeypatch.setattr(bin_pickles, "_MOST_STEPS", 10_000)
    tracemalloc.start()
    with contextlib.suppress(BadPickle):
        load(tmp_path, data)
    assert tracemalloc.get_traced_memory()[1] < 200 * 10_000
    tracemalloc.stop()


def test_a_name_with_line_breaks_stays_on_one_line(tmp_path):
    with pytest.raises(BadPickle, match="names osx.y, and") as refused:
        load(tmp_path, b"\x80\x04\x8c\x05os\nx\x1b\x8c\x01y\x93.")
    assert "\n" not in str(refused.value)


def test_bytes_stay_in_the_file(tmp_path):
    images, labels = load(tmp_path, SOUND)
    assert labels == [True]
    assert [SOUND[each.offset : each.offset + each.length] for each in images] == [
        b"a" * 300,
        b"b" * 300,
    ]
