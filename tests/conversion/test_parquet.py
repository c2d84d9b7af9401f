import json
import types

import pytest

from fv.conversion import datasets, parquet, sources
from fv.errors import TemporaryError, UserError
from tests.conversion import making

pyarrow = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

IMAGES = [making.jpeg(number) for number in range(7)]
STRUCTS = [{"bytes": image, "path": f"{number}.jpg"} for number, image in enumerate(IMAGES)]


def write(path, columns, rows=3, **options):
    pq.write_table(pyarrow.table(columns), path, row_group_size=rows, **options)
    return str(path)


def read(paths, scratch, **options):
    """The path, identity and bytes of every image."""
    images = parquet.list_images(paths, **options).images
    unpacked = parquet.unpack(images, str(scratch), map)
    return [
        (place.path, place.identity, sources.read_image("", place, 10**6)[0])
        for place in datasets.list_places(unpacked)
    ]


def test_images_of_several_files_and_row_groups_are_read(tmp_path):
    first = write(tmp_path / "a.parquet", {"image": STRUCTS[:4], "label": [5, 4, 5, None]}, rows=2)
    second = write(tmp_path / "b.parquet", {"image": STRUCTS[4:], "label": [4, 12, 5]}, rows=9)
    empty = write(tmp_path / "c.parquet", {"image": STRUCTS[:1], "label": [1]}, rows=1)
    pq.write_table(pq.read_table(empty).slice(0, 0), empty)
    wanted = [(f"a.parquet/{row}", label, IMAGES[row]) for row, label in enumerate("545")]
    wanted += [
        (f"b.parquet/{row}", label, IMAGES[4 + row]) for row, label in enumerate(["4", "12", "5"])
    ]
    assert read([first, empty, second], tmp_path) == wanted
    catalog = parquet.list_images([first, second])
    assert dict(catalog.unusable.to_numpy()) == {"a.parquet/3": "no label"}
    assert list(catalog.images["identity"].cat.categories) == ["12", "4", "5"]


def test_names_of_class_labels_and_columns_of_bytes_are_taken(tmp_path):
    features = {"info": {"features": {"identity": {"names": ["Ann", "Bo"], "_type": "ClassLabel"}}}}
    table = pyarrow.table({"jpg": IMAGES[:3], "identity": [1, 0, 1], "other": [b"x", b"y", b"z"]})
    table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    pq.write_table(table, tmp_path / "a.parquet")
    found = read([str(tmp_path / "a.parquet")], tmp_path)
    assert [(name, image) for _, name, image in found] == list(
        zip(["Bo", "Ann", "Bo"], IMAGES[:3], strict=True)
    )


@pytest.mark.parametrize(
    "labels",
    [
        pyarrow.array(["a", "b ", None, "", "c", "a", "b"]),
        pyarrow.array(["a", "b ", None, "", "c", "a", "b"]).dictionary_encode(),
        pyarrow.array(["a", "b ", None, "", "c", "a", "b"], pyarrow.large_string()),
    ],
)
def test_text_labels_of_any_type_are_taken(tmp_path, labels):
    path = write(tmp_path / "a.parquet", {"image": STRUCTS, "celeb_id": labels})
    found = read([path], tmp_path, column="celeb_id")
    assert [(int(path[-1]), name) for path, name, _ in found] == [
        (0, "a"),
        (1, "b"),
        (4, "c"),
        (5, "a"),
        (6, "b"),
    ]
    assert [image for *_, image in found] == [IMAGES[at] for at in (0, 1, 4, 5, 6)]


def test_large_labels_stay_apart(tmp_path):
    path = write(tmp_path / "a.parquet", {"image": STRUCTS[:2], "id": [2**60, 2**60 + 1]})
    assert [name for _, name, _ in read([path], tmp_path)] == [str(2**60), str(2**60 + 1)]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": ["a"], "label": [1]}, "no column of images, .* image: string, label: int64"),
        ({"image": [{"path": "a.jpg"}], "label": [1]}, "no column of images"),
        ({"image": IMAGES[:1], "celeb": [1]}, "no column label or .* --labels=NAME"),
        ({"image": IMAGES[:1], "label": [0.5]}, "column label is double, and labels are integers"),
        ({"image": IMAGES[:1], "label": [[1, 2]]}, "column label is list"),
    ],
)
def test_wrong_columns_are_refused_with_the_columns_there_are(tmp_path, columns, message):
    with pytest.raises(UserError, match=message) as error:
        parquet.list_images([write(tmp_path / "a.parquet", columns)])
    assert "\n" not in str(error.value)


def test_rows_without_bytes_are_empty_images(tmp_path):
    path = write(
        tmp_path / "a.parquet",
        {"image": [{"bytes": None, "path": "a"}, STRUCTS[1]], "label": [1, 2]},
    )
    with pytest.raises(UserError, match="no column of images"):
        parquet.list_images(
            [write(tmp_path / "b.parquet", {"image": [{"bytes": None}], "label": [1]})]
        )
    assert [image for *_, image in read([path], tmp_path)] == [b"", IMAGES[1]]


@pytest.mark.parametrize(
    "change", [lambda data: data[:-600], lambda data: b"PAR1" + bytes(400) + data[404:]]
)
def test_a_damaged_file_is_refused_in_one_line(tmp_path, change):
    path = tmp_path / "a.parquet"
    write(path, {"image": STRUCTS, "label": list(range(7))})
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError, match="is no Parquet file, or damaged") as error:
        read([str(path)], tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (
            "AWS Error NETWORK_CONNECTION during HeadObject operation",
            TemporaryError,
        ),
        ("google::cloud::Status(UNAVAILABLE: Retry policy exhausted)", TemporaryError),
        ("HDFS: Connection timed out", TemporaryError),
        ("AWS Error ACCESS_DENIED during HeadObject operation", UserError),
    ],
)
def test_a_failure_of_the_network_is_no_damage(monkeypatch, text, kind):
    def fail(path):
        raise OSError(text)

    monkeypatch.setattr(pytest.importorskip("pyarrow.fs"), "FileSystem", types.SimpleNamespace())
    monkeypatch.setattr(pyarrow.fs.FileSystem, "from_uri", fail, raising=False)
    with pytest.raises(kind, match="^s3://bucket/a.parquet "):
        parquet.list_images(["s3://bucket/a.parquet"])
