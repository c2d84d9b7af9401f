import io
import json
import tarfile

import pytest

from fv.conversion import datasets, sources, tar_shards
from fv.errors import UserError
from tests.conversion import making

JPEG = making.jpeg(1)


def listed(*members, folder, **options):
    path = making.tar(folder / "a.tar", members)
    return tar_shards.list_images([str(path)], **options)


def identities(catalog):
    return dict(zip(catalog.images["path"], catalog.images["identity"], strict=True))


@pytest.mark.parametrize(
    ("suffix", "label"),
    [
        ("cls", b"7"),
        ("txt", "7\n".encode("utf-8-sig")),
        ("json", json.dumps({"label": 7, "name": "x"}).encode()),
        ("json", json.dumps({"identity": "7"}).encode()),
        ("json", b"7"),
    ],
)
def test_labels_are_read_from_files_beside_images(tmp_path, suffix, label):
    members = [("d/01.jpg", JPEG), (f"d/01.{suffix}", label), ("d/readme.md", b"x")]
    assert identities(listed(*members, folder=tmp_path)) == {"a.tar/d/01.jpg": "7"}


def test_a_field_of_json_and_names_that_differ_little_are_chosen_by_flags(tmp_path):
    names = ["Ann Lee", "ann_lee", "Bo"]
    members = [
        member
        for number, name in enumerate(names)
        for member in (
            (f"{number}.jpg", JPEG),
            (f"{number}.json", json.dumps({"who": name}).encode()),
        )
    ]
    catalog = listed(*members, folder=tmp_path, field="who", merge_names=True)
    assert list(catalog.images["identity"]) == ["Ann Lee", "Ann Lee", "Bo"]


def test_images_are_read_where_they_are(tmp_path):
    images = [making.jpeg(number) for number in range(3)]
    members = [(f"{number}.jpg", image) for number, image in enumerate(images)]
    members += [(f"{number}.cls", b"1") for number in range(3)]
    catalog = listed(*members, folder=tmp_path)
    places = list(datasets.list_places(catalog.images))
    assert [sources.read_image("", place, 10**6)[0] for place in places] == images


def member(name, kind=tarfile.REGTYPE, size=0, link="", headers=None):
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname, info.pax_headers = kind, size, link, headers or {}
    return info


def test_names_that_leave_the_tar_and_links_are_not_read(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        for name in ("../up.jpg", "/etc/abs.jpg", "a/../../up2.jpg", "sound.jpg", "sound.jpg"):
            file.addfile(member(name, size=len(JPEG)), io.BytesIO(JPEG))
        file.addfile(member("link.jpg", tarfile.SYMTYPE, link="/etc/passwd"))
        file.addfile(member("hard.jpg", tarfile.LNKTYPE, link="sound.jpg"))
        file.addfile(member("pipe.jpg", tarfile.FIFOTYPE))
        file.addfile(member("sound.cls", size=1), io.BytesIO(b"1"))
        file.addfile(member("big.cls", size=1 << 17), io.BytesIO(bytes(1 << 17)))
        file.addfile(member("unlabelled.jpg", size=len(JPEG)), io.BytesIO(JPEG))
    catalog = tar_shards.list_images([str(tmp_path / "a.tar")])
    assert identities(catalog) == {"a.tar/sound.jpg": "1"}
    assert sorted(catalog.unusable.to_numpy().tolist()) == [
        ["a.tar/../up.jpg", "its name leaves the tar"],
        ["a.tar/../up2.jpg", "its name leaves the tar"],
        ["a.tar/big.cls", "larger than the 65,536 bytes that fv reads"],
        ["a.tar/etc/abs.jpg", "its name leaves the tar"],
        ["a.tar/hard.jpg", "a link: pack a copy of the image instead"],
        ["a.tar/link.jpg", "a link: pack a copy of the image instead"],
        ["a.tar/pipe.jpg", "not a regular file"],
        ["a.tar/sound.jpg", "a second file of this name in the tar"],
        ["a.tar/unlabelled.jpg", "no label beside it in the tar"],
    ]


def test_a_name_of_any_length_takes_no_memory(tmp_path):
    path = tmp_path / "a.tar"
    with open(path, "wb") as file:
        info = member("././@LongLink", tarfile.GNUTYPE_LONGNAME, 1 << 33)
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.truncate(1 << 34)  # sparse
    with pytest.raises(UserError, match="a header of 8,589,"):
        tar_shards.list_images([str(path)])


def damage(tar, change):
    data = bytearray(tar.read_bytes())
    tar.write_bytes(change(data))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"hello" * 500, "is no tar, or damaged"),
        (lambda data: b"", "is no tar, or damaged"),
        (lambda data: data[:700], "is no tar, or damaged"),
        (lambda data: data[: 2 * 1024] + b"x" * 512 + data[2 * 1024 + 512 :], "behind byte"),
        (lambda data: b"\x1f\x8b" + data, "is compressed: unpack it"),
    ],
)
def test_a_damaged_tar_is_refused_in_one_line(tmp_path, change, message):
    members = [("0.jpg", JPEG[:400]), ("0.cls", b"0"), ("1.jpg", JPEG[:400]), ("1.cls", b"1")]
    damage(making.tar(tmp_path / "a.tar", members), change)
    with pytest.raises(UserError, match=message) as error:
        tar_shards.list_images([str(tmp_path / "a.tar")])
    assert "\n" not in str(error.value)


def test_a_tar_of_folders_without_labels_says_what_is_missing(tmp_path):
    with pytest.raises(UserError, match=r"no image with a label .* a.tar/Ann/1.jpg: unpack"):
        listed(("Ann/1.jpg", JPEG), ("Bo/1.jpg", JPEG), folder=tmp_path)
