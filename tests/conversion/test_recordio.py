"""RecordIO: what mxnet 1.9.1 wrote and read (see records/), and what is damaged."""

import hashlib
import json
import pathlib
import struct
import tracemalloc

import pytest

from fv.conversion import datasets, image_files, recordio
from fv.errors import UserError
from tests.conversion import making

RECORDS = pathlib.Path(__file__).parent / "records"
EXPECTED = json.loads((RECORDS / "expected.json").read_text())
MOST = 1 << 20


def read(catalog):
    """By key, the identity and the SHA-256 of each image."""
    return {
        place.path.split("/")[1]: (
            place.identity,
            hashlib.sha256(recordio.read_image(place, MOST)[0]).hexdigest(),
        )
        for place in datasets.list_places(catalog.images)
    }


def expected(name):
    empty = hashlib.sha256(b"").hexdigest()
    return {
        key: (f"{each['labels'][0]:.0f}", each["sha256"])
        for key, each in EXPECTED[name].items()
        if each["sha256"] != empty  # records 0 and of identities
    }


@pytest.mark.parametrize("name", ["insightface/train", "plain/plain"])
def test_images_and_labels_are_those_that_mxnet_reads(name):
    catalog = recordio.list_images(str(RECORDS / f"{name}.rec"))
    assert read(catalog) == expected(name.split("/")[0]) and len(catalog.images) == 12
    assert catalog.unusable.empty


def test_an_image_in_a_row_says_where_its_bytes_begin():
    path = RECORDS / "insightface" / "train.rec"
    places = list(datasets.list_places(recordio.list_images(str(path)).images))
    found = [recordio.read_image(place, MOST) for place in places]
    assert [begin is None for _, begin in found] == [number == 4 for number in range(12)]
    image, begin = found[0]
    assert path.read_bytes()[begin : begin + len(image)] == image


def test_ranges_spare_the_reading_of_other_records(monkeypatch):
    heads = []
    read_heads = recordio._read_heads
    monkeypatch.setattr(
        recordio, "_read_heads", lambda file, at: heads.append(len(at)) or read_heads(file, at)
    )
    recordio.list_images(str(RECORDS / "insightface" / "train.rec"))
    assert heads == [1, 4, 4]  # record 0, the identities, the first image of each


def copy(folder, name="insightface/train"):
    path = folder / "train.rec"
    path.write_bytes((RECORDS / f"{name}.rec").read_bytes())
    path.with_suffix(".idx").write_bytes((RECORDS / f"{name}.idx").read_bytes())
    return path


def test_an_index_in_any_order_gives_the_same_images(tmp_path):
    path = copy(tmp_path)
    index = path.with_suffix(".idx")
    index.write_text("".join(reversed(index.read_text().splitlines(keepends=True))))
    assert read(recordio.list_images(str(path))) == expected("insightface")


def test_identities_are_sorted_as_the_names_of_folders_are(tmp_path):
    path = making.records(tmp_path / "a.rec", [(label, making.jpeg(label)) for label in range(12)])
    catalog = recordio.list_images(str(path))
    assert list(catalog.images["identity"]) == [str(label) for label in range(12)]
    assert list(catalog.images["identity"].cat.categories) == sorted(map(str, range(12)))


def test_ranges_that_are_wrong_are_found_when_an_image_is_read(tmp_path):
    images = [(number // 3, making.jpeg(number)) for number in range(6)]
    path = making.records(tmp_path / "a.rec", images, ranges=True)
    data = bytearray(path.read_bytes())
    offset = int(path.with_suffix(".idx").read_text().splitlines()[2].split("\t")[1])
    struct.pack_into("<f", data, offset + 12, 9.0)  # the label of image 2
    path.write_bytes(data)
    places = list(datasets.list_places(recordio.list_images(str(path)).images))
    assert recordio.read_image(places[0], MOST)[0] == images[0][1]
    with pytest.raises(image_files.BadImage, match="label 9 is not that of its identity, 0"):
        recordio.read_image(places[1], MOST)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rec, idx: idx.unlink(), "train.idx is missing"),
        (lambda rec, idx: idx.write_text(""), "lists nothing"),
        (lambda rec, idx: idx.write_text("0 0\n1 here\n"), "key TAB byte"),
        (lambda rec, idx: idx.write_text("0\t0\n1\t99999\n"), "line 2: no record can begin at"),
        (lambda rec, idx: idx.write_text("0\t-8\n"), "line 1: no record can begin at byte -8"),
        (lambda rec, idx: idx.write_text(f"0\t{1 << 70}\n"), "key TAB byte"),
        (lambda rec, idx: idx.write_text("0\t0\n0\t144\n"), "lists record 0 twice"),
        (lambda rec, idx: rec.write_bytes(b"x" * 9500), "is not a RecordIO file"),
        (lambda rec, idx: rec.write_bytes(rec.read_bytes()[:3000]), "one of the files was cut"),
        (lambda rec, idx: rec.write_bytes(b""), "has 0 bytes"),
    ],
)
def test_files_that_do_not_fit_are_refused_in_one_line(tmp_path, change, message):
    path = copy(tmp_path)
    change(path, path.with_suffix(".idx"))
    with pytest.raises(UserError, match=message) as error:
        recordio.list_images(str(path))
    assert "\n" not in str(error.value)


def test_damaged_records_of_a_plain_file_are_listed(tmp_path):
    path = making.records(tmp_path / "a.rec", [(0, making.jpeg(1))] * 4)
    data = bytearray(path.read_bytes())
    size = len(data) // 4
    data[size] ^= 1  # the magic number of record 1
    struct.pack_into("<f", data, 2 * size + 12, float("nan"))
    path.write_bytes(data)
    catalog = recordio.list_images(str(path))
    assert list(catalog.images["path"]) == ["a.rec/0", "a.rec/3"]
    assert dict(catalog.unusable.to_numpy()) == {
        "a.rec/1": "damaged record: it does not begin with RecordIO's magic number",
        "a.rec/2": "its label nan is no whole number",
    }


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (struct.pack("<II", recordio.MAGIC, 900) + bytes(50), "cut short"),
        (struct.pack("<II", recordio.MAGIC, 1 << 29 | 8) + bytes(8), "cut short"),
        (struct.pack("<II", recordio.MAGIC, 8) + bytes(8), "without a header"),
        (making.record_parts(struct.pack("<IfQQ", 1 << 31, 0, 0, 0), b""), "2,147,483,648 labels"),
        (bytes(60), "magic number"),
        (b"", "cut short"),
    ],
)
def test_a_record_that_lies_about_itself_is_a_bad_image(tmp_path, record, message):
    (tmp_path / "a.rec").write_bytes(record)
    place = datasets.Place("a.rec/0", str(tmp_path / "a.rec"), 0, 1 << 31, "0")
    tracemalloc.start()
    try:
        with pytest.raises(image_files.BadImage, match=message):
            recordio.read_image(place, MOST)
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()


def test_a_record_longer_than_the_first_read_is_read_whole(tmp_path):
    image = bytes(3 << 20)
    path = making.records(tmp_path / "a.rec", [(0, image)])
    (place,) = datasets.list_places(recordio.list_images(str(path)).images)
    assert recordio.read_image(place, 8 << 20) == (image, 32)
    with pytest.raises(image_files.BadImage, match="larger than any image"):
        recordio.read_image(place, 2 << 20)
