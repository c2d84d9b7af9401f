import os

import pytest

from fv.conversion import datasets
from fv.errors import UserError
from tests.conversion import making

COPY = "copy the images with cp -rL FROM TO, which copies what links point to, and give --images=TO"


def test_images_come_sorted_with_the_first_folder_as_identity(tmp_path):
    making.people(tmp_path, Zoë=1, Al=2)
    images, unusable, *_ = datasets.scan_folders([str(tmp_path)])
    assert list(images["path"]) == ["Al/Al_0001.jpg", "Al/Al_0002.jpg", "Zoë/Zoë_0001.jpg"]
    assert list(images["identity"]) == ["Al", "Al", "Zoë"]
    assert unusable.empty


def test_nested_folders_spaces_and_upper_case_suffixes_are_taken(tmp_path):
    nested = tmp_path / "Ann Lee" / "2019" / "may"
    nested.mkdir(parents=True)
    (nested / "at home.JPEG").write_bytes(making.jpeg())
    images, *_ = datasets.scan_folders([str(tmp_path)])
    assert list(images["path"]) == ["Ann Lee/2019/may/at home.JPEG"]
    assert list(images["identity"]) == ["Ann Lee"]


def test_hidden_files_and_files_that_are_no_images_by_name_are_passed_over(tmp_path):
    making.people(tmp_path, a=1)
    for name in ("a/.hidden.jpg", "a/notes.txt", "README"):
        (tmp_path / name).write_bytes(b"x")
    images, unusable, *_ = datasets.scan_folders([str(tmp_path)])
    assert (len(images), len(unusable)) == (1, 0)


def test_what_cannot_be_an_image_is_unusable_with_its_reason(tmp_path):
    root = making.people(tmp_path / "images", a=1)
    (tmp_path / "secret.jpg").write_bytes(making.jpeg())
    (root / "a" / "out.jpg").symlink_to(tmp_path / "secret.jpg")
    (root / "away").symlink_to(tmp_path)
    (root / "a" / "folder.jpg").mkdir()
    (root / "loose.jpg").write_bytes(making.jpeg())
    os.mkfifo(root / "a" / "pipe.jpg")
    images, unusable, *_ = datasets.scan_folders([str(root)])
    assert list(images["path"]) == ["a/a_0001.jpg"]
    assert dict(zip(unusable["path"], unusable["reason"], strict=True)) == {
        "a/folder.jpg": "a folder with an image's name",
        "a/out.jpg": f"a symbolic link that leaves the images folder: {COPY}",
        "a/pipe.jpg": "not a regular file",
        "away": f"a symbolic link that leaves the images folder: {COPY}",
        "loose.jpg": "not in an identity's folder",
    }


def test_a_link_within_the_images_folder_is_taken(tmp_path):
    making.people(tmp_path, a=1)
    (tmp_path / "a" / "again.jpg").symlink_to(tmp_path / "a" / "a_0001.jpg")
    images, unusable, *_ = datasets.scan_folders([str(tmp_path)])
    assert (len(images), len(unusable)) == (2, 0)


def test_a_link_to_itself_does_not_stop_the_scan(tmp_path):
    making.people(tmp_path, a=1)
    (tmp_path / "a" / "loop").symlink_to("loop")
    (tmp_path / "a" / "loop.jpg").symlink_to("loop.jpg")
    found = datasets.scan_folders([str(tmp_path)])
    assert list(found.images["path"]) == ["a/a_0001.jpg"]
    assert dict(found.unusable.to_numpy()) == {
        "a/loop.jpg": "a symbolic link to nothing: remove it, or restore what it points to"
    }
    assert (len(found.images), len(found.unusable), found.passed_over["files"].sum()) == (1, 1, 1)


def test_a_name_that_is_not_utf8_is_unusable(tmp_path):
    making.people(tmp_path, a=1)
    with open(os.fsencode(tmp_path) + b"/a/\xff.jpg", "wb") as file:
        file.write(making.jpeg())
    _, unusable, *_ = datasets.scan_folders([str(tmp_path)])
    assert list(unusable["path"]) == ["a/\\xff.jpg"]


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="nowhere is not a folder"):
        datasets.scan_folders([str(tmp_path / "nowhere")])


@pytest.mark.parametrize(
    ("people", "message"), [({}, "no image"), ({"only": 3}, "one identity only \\('only'\\)")]
)
def test_fewer_than_two_identities_are_refused(tmp_path, people, message):
    catalog = datasets.scan_folders([str(making.people(tmp_path, **people))])
    with pytest.raises(UserError, match=message):
        datasets.require_identities(catalog, "images")
