"""The same images from every kind of source; what `--images` finds; and what is refused."""

import os

import pytest
from PIL import Image

from fv import face_files, manifest, record
from fv.conversion import convert, datasets, faces, options, shards, sources
from fv.errors import UserError
from tests.conversion import making
from tests.samples import digests

PEOPLE, IMAGES = 12, 4
FORMATS = ("folders", "records", "ranges", "list", "tar", "parquet")


def listed():
    """(person, number, bytes) in the order of folders; one image is a PNG, two are damaged."""
    for person in sorted(map(str, range(PEOPLE))):
        for number in range(IMAGES):
            seed = int(person) * IMAGES + number
            data = making.jpeg(seed)
            if seed == 5:
                data = making.encode(Image.fromarray(making.pixels(seed)), "PNG")
            yield person, number, data[: len(data) // 2] if seed in (9, 30) else data


def write(root, format):
    """Writes the images in a format; returns the flags that name them."""
    root.mkdir()
    images = list(listed())
    if format == "folders":
        for person, number, data in images:
            (root / person).mkdir(exist_ok=True)
            (root / person / f"{number}.jpg").write_bytes(data)
    elif format in ("records", "ranges"):
        records = [(int(person), data) for person, _, data in images]
        making.records(root / "train.rec", records, ranges=format == "ranges")
        (root / "property").write_text("12,24,24")
    elif format == "list":
        (root / "flat").mkdir()
        for person, number, data in images:
            (root / "flat" / f"{person}_{number}.jpg").write_bytes(data)
        lines = [f"{person}_{number}.jpg {person}\n" for person, number, _ in images]
        (root / "list.txt").write_text("".join(reversed(lines)))
        return dict(images=str(root / "flat"), labels=str(root / "list.txt"))
    elif format == "tar":
        for shard, part in enumerate((images[:20], images[20:])):
            members = [
                (f"{person}_{number}.{suffix}", content)
                for person, number, data in part
                for suffix, content in (("cls", person.encode()), ("jpg", data))
            ]
            making.tar(root / f"faces-{shard:02d}.tar", members)
        return dict(images=str(root / "faces-{00..01}.tar"))
    else:
        pyarrow = pytest.importorskip("pyarrow")
        rows = [{"bytes": data, "path": None} for *_, data in images]
        table = pyarrow.table({"image": rows, "label": [int(person) for person, *_ in images]})
        pyarrow.parquet.write_table(table, root / "train.parquet", row_group_size=10)
    return dict(images=str(root))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """By format, the flags that name the images."""
    pytest.importorskip("pyarrow.parquet")
    root = tmp_path_factory.mktemp("sources")
    return {format: write(root / format, format) for format in FORMATS}


def run(output, flags, **others):
    given = dict(val_fraction=0.35, test_fraction=0, workers=2, shards=4, seed=3)
    return convert.convert(options.ConvertOptions(output=str(output), **given | flags | others))


def pairs(folder):
    """Everything in the records but the paths, in order."""
    names = (record.IMAGE_A, record.IMAGE_B, record.IDENTITY_A, record.IDENTITY_B, record.LABEL)
    return [
        [pair[name] for name in names]
        for split in manifest.load(str(folder)).splits
        for pair in making.pairs(folder, split)
    ]


def test_every_format_gives_the_same_people_pairs_and_bytes(written, tmp_path):
    for format, flags in written.items():
        made, left_out = run(tmp_path / format, flags)
        assert sum(map(len, (split.identities for split in made.splits.values()))) == PEOPLE
        assert len(left_out) == 2 and all("damaged" in reason for reason in left_out["reason"])
        assert pairs(tmp_path / format) == pairs(tmp_path / "folders"), format
        kept = set(made.flags.splitlines())
        assert {f"--{name}={value}" for name, value in flags.items()} <= kept
        assert not (tmp_path / format / ".fv" / "scratch").exists()


@pytest.mark.parametrize("format", ["ranges", "tar", "parquet"])
def test_shards_do_not_depend_on_processes_or_interruptions(written, tmp_path, format, monkeypatch):
    run(tmp_path / "one", written[format], workers=1)

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(manifest, "save", interrupt)
        run(tmp_path / "two", written[format])
    shards = sorted((tmp_path / "two").glob("*.tfrecord"))
    os.remove(shards[0])
    kept = shards[1].stat().st_ino
    relative = dict(images=os.path.relpath(written[format]["images"]))
    run(tmp_path / "two", relative, identity_level=1, merge_names=False)  # as mining does
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert shards[1].stat().st_ino == kept


@pytest.mark.slow
@pytest.mark.parametrize("format", ["records", "parquet"])
def test_a_beam_runner_writes_the_same_shards(written, tmp_path, format):
    pytest.importorskip("apache_beam")
    run(tmp_path / "here", written[format])
    run(tmp_path / "beam", written[format], runner="DirectRunner")
    assert digests(tmp_path / "here") == digests(tmp_path / "beam")


def test_copies_in_a_container_are_found_and_drawn(tmp_path):
    images = [(number // 3, making.jpeg(number)) for number in range(12)]
    images[3] = (1, images[0][1])  # of two people
    images[8] = (2, images[7][1])  # of one
    path = making.records(tmp_path / "train.rec", images, ranges=True)
    _, left_out = run(tmp_path / "out", dict(images=str(path)), val_fraction=0, test_fraction=0)
    assert dict(left_out.to_numpy()) == {
        "train.rec/1": "the same picture as 'train.rec/4', and two identities have it",
        "train.rec/4": "the same picture as 'train.rec/1', and two identities have it",
        "train.rec/9": "the same bytes as 'train.rec/8'",
    }
    page = (tmp_path / "out" / shards.REPORT_PAGE).read_text()
    assert page.count("data:image/jpeg") == 2  # suspects and pairs


def test_identities_that_lose_all_images_are_reported(tmp_path):
    images = [(number // 2, making.jpeg(number)) for number in range(8)]
    images[:2] = [(0, b""), (0, b"x")]
    path = making.records(tmp_path / "train.rec", images)
    run(tmp_path / "out", dict(images=str(path)), val_fraction=0, test_fraction=0)
    text = (tmp_path / "out" / shards.REPORT).read_text()
    assert '"left_out_names": [\n      "0"\n    ]' in text


def test_a_container_that_vanishes_ends_the_run(written, tmp_path, monkeypatch):
    path = making.records(tmp_path / "a.rec", [(n // 4, making.jpeg(n)) for n in range(24)])
    choose = convert.select

    def select(*arguments):
        found = choose(*arguments)
        os.rename(path, tmp_path / "b.rec")
        return found

    monkeypatch.setattr(convert, "select", select)
    with pytest.raises(UserError, match=r"--images=.*a.rec has vanished; 0 of"):
        run(tmp_path / "out", dict(images=str(path)))


def test_listed_pairs_name_images_of_a_container(written, tmp_path):
    table = tmp_path / "pairs.csv"
    table.write_text(
        "image_a,image_b,label\ntrain.rec/1,train.rec/2,1\ntrain.rec/1,train.rec/9,0\n"
    )
    run(tmp_path / "out", written["records"], pairs_csv=str(table))
    a, b, *_, label = pairs(tmp_path / "out")[0]
    images = [data for *_, data in listed()]
    assert {a, b} <= {images[1], images[2], images[9]} and label in (0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["ranges", "tar", "parquet"])
def test_files_behind_a_scheme_are_read_in_place(written, tmp_path, format):
    run(tmp_path / "here", written[format], workers=1)
    remote = {"images": f"file://{written[format]['images']}"}
    run(tmp_path / "there", remote, workers=1)
    assert pairs(tmp_path / "here") == pairs(tmp_path / "there")


def find(images, labels=None, level=None, merge=False):
    return sources.find_images(str(images), labels, level, merge)


def test_several_folders_are_one_data_set(tmp_path):
    making.people(tmp_path / "x" / "one", Ann=2, Bo=1)
    making.people(tmp_path / "x" / "y" / "two", Cy=1, Ann=1)
    (tmp_path / "x" / "one" / "note.txt").write_text("x")
    catalog = find(f"{tmp_path}/x/one,{tmp_path}/x/y/two")
    assert dict(zip(catalog.images["path"], catalog.images["identity"], strict=True)) == {
        "one/Ann/Ann_0001.jpg": "Ann",
        "one/Ann/Ann_0002.jpg": "Ann",
        "one/Bo/Bo_0001.jpg": "Bo",
        "y/two/Ann/Ann_0001.jpg": "Ann",
        "y/two/Cy/Cy_0001.jpg": "Cy",
    }
    assert catalog.root == f"{tmp_path}/x/" and catalog.passed_over["files"].tolist() == [1]
    (place,) = (each for each in datasets.list_places(catalog.images) if "Cy" in each.path)
    assert sources.read_image(catalog.root, place, 10**6)[0].startswith(b"\xff\xd8")


def test_several_folders_are_converted_and_checked(tmp_path):
    making.crowd(tmp_path / "one", 6, 3)
    making.people(tmp_path / "two", seed=90, Ann=3, Bo=3, p000=2)
    both = f"{tmp_path}/one,{tmp_path}/two"
    made, left_out = run(tmp_path / "out", dict(images=both), val_fraction=0, test_fraction=0)
    assert len(made.split("train").identities) == 8 and left_out.empty
    making.people(tmp_path / "three", seed=190, **{"7": 2, "8": 2})
    making.people(tmp_path / "four", seed=290, **{"7": 2, "9": 2})
    with pytest.raises(UserError, match="1 identity joined from .* 'four/7', 'three/7'"):
        run(tmp_path / "no", dict(images=f"{tmp_path}/three,{tmp_path}/four"))


def people_and_records(folder):
    making.records(folder / "train.rec", [(0, b"x")])


def several_records(folder):
    for name in ("a.rec", "b.rec"):
        making.records(folder / name, [(0, b"x")])


def two_formats(folder):
    making.records(folder / "a.rec", [(0, b"x")])
    making.tar(folder / "b.tar", [])


@pytest.mark.parametrize(
    ("fill", "ending", "flags", "message"),
    [
        (people_and_records, "", {}, r"holds 1 \.rec and folders of images: give .*train.rec, or"),
        (several_records, "", {}, r"holds 2 \.rec: give one of them"),
        (two_formats, "", {}, r"holds 1 \.rec and 1 \.tar: give the files, such as --images=.*a"),
        (two_formats, "/a.rec,{0}/b.tar", {}, "names files of two formats"),
        (two_formats, "/a.rec", dict(level=2), "identity_level=2 is for folders"),
        (two_formats, "/Ann", dict(level=2, labels="x"), "identity_level=2 is for .* --labels=x"),
        (two_formats, "/a.rec", dict(labels="x"), "with --labels=x: give one .rec"),
        (several_records, "/a.rec,{0}/b.rec", {}, "several .rec files, which number"),
        (two_formats, "/b.tar,{0}/b.tar", {}, "two files of one name"),
        (two_formats, "/Ann,{0}", {}, "holds another of the folders"),
        (two_formats, "/Ann,{0}/Bo", dict(labels="x"), "is for one folder"),
        (two_formats, "/Ann/Ann_0001.jpg", {}, "is not a folder, and no file that fv reads"),
        (two_formats, "/b-{{09..01}}.tar", {}, "{09..01} is no range of files"),
        (two_formats, "/c.tar", {}, "c.tar is not a folder"),
    ],
)
def test_what_cannot_be_decided_is_one_line_with_what_decides(
    tmp_path, fill, ending, flags, message
):
    folder = making.people(tmp_path / "images", Ann=1, Bo=1)
    if fill is not people_and_records:
        folder = tmp_path / "files"
        making.people(folder, Ann=1, Bo=1) if ending else folder.mkdir()
    fill(folder)
    with pytest.raises(UserError, match=message) as error:
        find(f"{folder}{ending.format(folder)}", **flags)
    assert "\n" not in str(error.value)


def test_the_level_decides_for_the_folders_beside_a_container(tmp_path):
    people_and_records(making.people(tmp_path / "images", Ann=1, Bo=1))
    assert len(find(tmp_path / "images", level=1).images) == 2


def test_containers_that_lie_deeper_are_named(tmp_path):
    (tmp_path / "images" / "ms1m").mkdir(parents=True)
    making.records(tmp_path / "images" / "ms1m" / "train.rec", [(0, b"x")])
    with pytest.raises(UserError, match=r"\.rec \(ms1m/train.rec\): give its folder as --images"):
        run(tmp_path / "out", dict(images=str(tmp_path / "images")))


def test_ranges_and_commas_name_files_and_an_existing_name_stays_whole(tmp_path):
    assert sources.split_paths("a{08..10}b{0..1}, c") == [
        *(f"a{first}b{second}" for first in ("08", "09", "10") for second in "01"),
        "c",
    ]
    (tmp_path / "a,b").mkdir()
    assert sources.split_paths(f"{tmp_path}/a,b") == [f"{tmp_path}/a,b"]


def test_faces_are_found_in_containers(written, tmp_path, monkeypatch):
    points = "".join(f",{name}" for name in face_files.POINT_COLUMNS)
    rows = [f"train.rec/{key},6,8,18,8,12,12,8,18,16,18\n" for key in range(48)]
    (tmp_path / "points.csv").write_text(f"path{points}\n{''.join(rows)}")
    chosen = faces.FaceOptions(face_points=str(tmp_path / "points.csv"))
    made, _ = run(tmp_path / "out", written["records"], faces=chosen, store_size=16)
    assert made.image_side == 16 and made.preprocessing.alignment


@pytest.fixture
def labelled(tmp_path):
    folder = tmp_path / "images"
    (folder / "deep er").mkdir(parents=True)
    for name in ("1.jpg", "2.jpg", "deep er/3.jpg"):
        (folder / name).write_bytes(making.jpeg())
    return folder


def list_labelled(labelled, text, **options):
    path = labelled.parent / "list.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return sources.list_labelled(str(labelled), str(path), **options)


@pytest.mark.parametrize(
    "text",
    [
        "1.jpg 10\n2.jpg 11\ndeep er/3.jpg 10\n",
        "1.jpg,10\n2.jpg,11\ndeep er/3.jpg,10",
        "1.jpg\t10\r\n2.jpg\t11\r\n\r\ndeep er/3.jpg\t10\r\n",
        "\ufeffpath,label\n1.jpg,10\n2.jpg,11\ndeep er/3.jpg,10\n",
        'sex,Identity,file name,image_id\nm,10,x,"1.jpg"\nf,11,y,2.jpg\nm,10,z,deep er/3.jpg\n',
        "image\tidentity\n./1.jpg\t10\n2.jpg\t11\ndeep er//3.jpg\t10\n",
    ],
)
def test_every_form_of_a_list_gives_the_same_identities(labelled, text):
    catalog = list_labelled(labelled, text)
    found = dict(zip(catalog.images["path"], catalog.images["identity"], strict=True))
    assert found == {"1.jpg": "10", "2.jpg": "11", "deep er/3.jpg": "10"}
    assert catalog.unusable.empty and catalog.naming is None


def test_what_list_and_folder_do_not_share_is_unusable_with_the_line(labelled):
    text = "1.jpg,Ann\n1.jpg,Bo\n2.jpg,\nnowhere.jpg,Ann\n1.jpg,Ann\n"
    catalog = list_labelled(labelled, text)
    source = labelled.parent / "list.txt"
    assert catalog.images.empty
    assert dict(catalog.unusable.to_numpy()) == {
        "1.jpg": f"listed under two people: 'Ann' ({source}, line 1) and 'Bo' (line 2)",
        "2.jpg": f"no label in {source}, line 3",
        "deep er/3.jpg": f"not in {source}",
        "nowhere.jpg": f"no such image below --images, but in {source}, line 4",
    }


def test_links_out_of_the_folder_are_not_read(labelled):
    (labelled.parent / "secret.jpg").write_bytes(making.jpeg())
    (labelled / "4.jpg").symlink_to(labelled.parent / "secret.jpg")
    catalog = list_labelled(labelled, "1.jpg a\n2.jpg b\n4.jpg c\ndeep er/3.jpg a\n")
    assert list(catalog.unusable["path"]) == ["4.jpg"]
    assert "leaves the images folder" in catalog.unusable["reason"][0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists nothing"),
        ("path,label\n", "lists nothing"),
        ("1.jpg,Ann,x\n", "line 1: 3 fields, and line 1 names no columns"),
        ("path,sex\n1.jpg,m\n", "names no column of a label in path, sex: rename it to label"),
        ("face,label\n1.jpg,m\n", "names no column of a path in face, label: rename it to path"),
        ("1.jpg a\n../2.jpg b\n", "line 2: '../2.jpg' leaves the images folder"),
        ("/etc/2.jpg b\n", "line 1: '/etc/2.jpg' leaves the images folder"),
        (b"\x89PNG\xff\n", "no list of paths and labels in UTF-8"),
        ('1.jpg,"a\n', "no list of paths and labels in UTF-8"),
        ("1.jpg\0 a\n", "zero byte"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused_in_one_line(labelled, text, message):
    with pytest.raises(UserError, match=message) as error:
        list_labelled(labelled, text)
    assert "\n" not in str(error.value)
