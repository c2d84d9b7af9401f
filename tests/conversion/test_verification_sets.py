import contextlib
import io
import os
import pathlib
import pickle
import struct
import tracemalloc

import numpy as np
import pytest

from fv.conversion import verification_sets
from fv.errors import UserError

BINS = pathlib.Path(__file__).parent / "bins"
IMAGES = [(BINS / f"{number}.jpg").read_bytes() for number in range(8)]
LABELS = [True, False, True, False]


def images_of(found):
    return [
        found.images[end] for pair in zip(found.first, found.second, strict=True) for end in pair
    ]


def load(tmp_path, content, protocol=4):
    path = tmp_path / "x.bin"
    path.write_bytes(pickle.dumps(content, protocol))
    return verification_sets.load(str(path))


@pytest.mark.parametrize("path", sorted(BINS.glob("*.bin")), ids=lambda path: path.stem)
def test_files_of_python_2_and_3_hold_the_images_byte_for_byte(path):
    found = verification_sets.load(str(path))
    assert images_of(found) == IMAGES
    assert found.labels.tolist() == LABELS


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("form", ["bytes", "bytearray", "array", "column", "labels"])
def test_every_protocol_and_form_holds_the_images_byte_for_byte(tmp_path, protocol, form):
    images, labels = list(IMAGES), LABELS
    if form == "bytearray":
        images = [bytearray(image) for image in images]
    elif form == "array":
        images = [np.frombuffer(image, np.uint8) for image in images]
    elif form == "column":
        images = [np.frombuffer(image, np.uint8).reshape(-1, 1).copy() for image in images]
    elif form == "labels":
        labels = np.array(LABELS) if protocol % 2 else [np.bool_(label) for label in LABELS]
    found = load(tmp_path, (images, labels), protocol)
    assert images_of(found) == IMAGES
    assert found.labels.tolist() == LABELS


def test_a_written_set_is_byte_for_byte_that_of_insightface(tmp_path):
    verification_sets.write(str(tmp_path / "x.bin"), IMAGES, LABELS)
    written = (tmp_path / "x.bin").read_bytes()
    assert written == (BINS / "python3-5-bytes.bin").read_bytes()
    assert pickle.load(io.BytesIO(written), encoding="bytes") == (IMAGES, LABELS)


def test_equal_images_are_one_and_genuine_pairs_join_people():
    found = verification_sets.load(str(BINS / "python3-5-bytes.bin"))
    assert [name[-8 - 10 :] for name in found.names[:1]] == ["00000-9c4bef67.jpg"]
    people = [name.split("/")[0][-5:] for name in found.names]
    assert people == ["00000", "00000", "00002", "00003", "00004", "00004", "00007"]
    assert found.first.tolist() == [0, 2, 4, 0]  # images 0 and 6 are equal


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2, 3], "does not hold two lists"),
        (("images", [True]), "does not hold two lists"),
        ((IMAGES, LABELS[:3]), "8 images for 3 labels, not two each"),
        (([], []), "0 images for 0 labels"),
        ((IMAGES[:2], ["same"]), "label 0 is no boolean"),
        ((IMAGES[:2], [None]), "label 0 is no boolean"),
        ((IMAGES[:2], [2]), "label 0 is no boolean"),
        (([IMAGES[0], 5], [True]), "image 1 is neither bytes nor an array of uint8"),
        (([np.zeros((8, 8, 3), np.uint8)] * 2, [True]), "image 0 is no array of the bytes"),
        (([np.zeros(8, np.float32)] * 2, [True]), "image 0 is no array of the bytes"),
        (([np.array([None])] * 2, [True]), "image 0 is no array of the bytes"),
        ((["caf\u0151"] * 2, [True]), "image 0 is neither bytes nor an array of uint8"),
    ],
)
def test_another_content_is_one_line(tmp_path, content, message):
    with pytest.raises(UserError, match=rf"x\.bin.*{message}") as refused:
        load(tmp_path, content)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_no_pickle_is_one_line(tmp_path):
    for data in (b"", b"\xff\xd8\xff", b"hello\n", b"\x80\x04."):
        (tmp_path / "x.bin").write_bytes(data)
        with pytest.raises(UserError, match="cannot be read as a verification set"):
            verification_sets.load(str(tmp_path / "x.bin"))


SOUND = pickle.dumps(([b"a" * 300, b"b" * 300], [True]), protocol=4)


class Call:
    """Calls a function where pickle loads it."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


def load_bytes(tmp_path, data):
    (tmp_path / "x.bin").write_bytes(data)
    return verification_sets.load(str(tmp_path / "x.bin"))


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (Call(os.system, "touch called"), "system"),
        (Call(eval, "1"), "eval"),
        (Call(np.load, "x"), "load"),
        (Call(pickle.loads, b"N."), "loads"),
    ],
)
def test_a_pickle_that_calls_a_function_is_refused_and_calls_none(
    tmp_path, monkeypatch, protocol, call, name
):
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps(([call], [True]), protocol)
    with pytest.raises(UserError, match=f"names .*{name}, and may run any program"):
        load_bytes(tmp_path, data)
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize(
    "held",
    [{1: 2}, {1}, 1.5, object(), frozenset(), complex(1, 2)],
)
def test_another_object_is_refused(tmp_path, held):
    for protocol in range(6):
        with pytest.raises(UserError):
            load(tmp_path, ([held] * 2, [True]), protocol)


def test_a_pickle_cut_short_anywhere_is_refused(tmp_path):
    for end in range(len(SOUND)):
        with pytest.raises(UserError, match="cut short"):
            load_bytes(tmp_path, SOUND[:end])


def test_a_changed_byte_is_refused_or_read_but_never_a_bug(tmp_path):
    data = pickle.dumps(([np.arange(9, dtype=np.uint8)], [np.True_]), protocol=2)
    for at in range(len(data)):
        for value in (0, 40, 66, 82, 98, 113, 255):
            with contextlib.suppress(UserError):
                load_bytes(tmp_path, data[:at] + bytes([value]) + data[at + 1 :])


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"x.",  # bytes of 4 EB
        b"\x80\x02]r\xff\xff\xff\xff.",  # a memo of 4 billion entries
        b"I" + b"9" * 5000 + b"\n.",
        b"(" * 30_000,
        b"]" * 30_000 + b".",
        b"]\x94" * 30_000 + b".",
        # text that is in the file once, and made bytes of many times
        b"\x80\x04X\x00\x80\x00\x00" + b"a" * (1 << 15) + b"\x94c_codecs\nencode\n\x94"
        b"\x8c\x06latin1\x94" + b"h\x01h\x00h\x02\x86R" * 900,
    ],
)
def test_memory_is_bounded_whatever_the_file_says(tmp_path, monkeypatch, data):
    monkeypatch.setattr(verification_sets, "_MOST_READS", 10_000)
    tracemalloc.start()
    with contextlib.suppress(UserError):
        load_bytes(tmp_path, data)
    assert tracemalloc.get_traced_memory()[1] < 200 * 10_000
    tracemalloc.stop()


def test_a_name_with_line_breaks_stays_on_one_line(tmp_path):
    with pytest.raises(UserError, match="names osx.y, and") as refused:
        load_bytes(tmp_path, b"\x80\x04\x8c\x05os\nx\x1b\x8c\x01y\x93.")
    assert "\n" not in str(refused.value)
