import os
import subprocess

import pytest
from PIL import Image

from fv import cli, files, make_tfrecords
from fv.conversion import folders, options, sources
from fv.errors import UserError
from tests.conversion import making

COPY = "copy the images with cp -rL FROM TO, which copies what links point to, and give --images=TO"
PICTURE = Image.fromarray(making.pixels(1))
ODD = {
    "a/one.HEIC": b"\0\0\0\x24ftypheic\0\0\0\0mif1heic",
    "a/two.heic": b"\0\0\0\x24ftypmif1\0\0\0\0mif1heic",
    "a/one.avif": b"\0\0\0\x20ftypmif1\0\0\0\0avifmif1",
    "a/one.jp2": b"\0\0\0\x0cjP  \r\n\x87\n",
    "a/one.jpg_large": making.jpeg(50),
    "b/one": making.jpeg(51),
    "b/one.mpo": making.jpeg(52),
    "b/one.mov": b"\0\0\0\x14ftypqt  ",
    "b/1.0001": b"II*\0",
    "b/one.cr2": b"II*\0\x10\0\0\0CR",
    "b/Thumbs.db": b"\xd0\xcf\x11\xe0",
    "notes.txt": b"BMW and others",
    ".DS_Store": b"\0",
    ".thumbnails/a/1.jpg": making.jpeg(1),
}


def fill(folder, odd=ODD):
    """Two people of three images each, and odd files."""
    making.people(folder, a=3, b=3)
    for path, data in odd.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def rows(table):
    return {row.suffix: (row.files, row.example, row.format) for row in table.itertuples()}


def run(capsys, *flags):
    """(exit code, stdout, stderr) of the converter with these flags."""
    flags = (*flags, "--val_fraction=0", "--test_fraction=0", "--workers=1")
    with pytest.raises(SystemExit) as exited:
        cli.run(make_tfrecords.main, options.ConvertOptions, argv=["fv-make-tfrecords", *flags])
    return exited.value.code or 0, *capsys.readouterr()


def test_files_are_counted_by_suffix_and_their_format_is_named(tmp_path):
    assert rows(folders.scan_folders([str(fill(tmp_path))]).passed_over) == {
        ".heic": (2, "a/one.HEIC", "HEIC"),
        "hidden": (2, ".DS_Store", ""),
        "without a suffix": (2, "b/1.0001", "TIFF, JPEG"),
        ".avif": (1, "a/one.avif", "AVIF"),
        ".cr2": (1, "b/one.cr2", "camera raw"),
        ".db": (1, "b/Thumbs.db", ""),
        ".jp2": (1, "a/one.jp2", "JPEG 2000"),
        ".jpg_large": (1, "a/one.jpg_large", "JPEG"),
        ".mov": (1, "b/one.mov", "video"),
        ".mpo": (1, "b/one.mpo", "JPEG"),
        ".txt": (1, "notes.txt", ""),
    }


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_what_pillow_writes_is_recognised(format):
    name = {"WEBP": "WebP", "PPM": "PNM"}.get(format, format)
    assert folders.recognise(making.encode(PICTURE, format)) == name


@pytest.mark.parametrize(
    "data", [b"", b"BMW is a car", b"P1", b"P5x", b"RIFF\0\0\0\0WAVEfmt ", b"II", b"\xff\xd8"]
)
def test_other_bytes_are_of_no_format(data):
    assert folders.recognise(data) == ""


def test_every_file_is_used_left_out_or_passed_over(tmp_path, capsys):
    root = fill(tmp_path / "faces")
    (root / "a" / "empty.jpg").write_bytes(b"")
    (root / "loose.jpg").write_bytes(making.jpeg(9))
    (root / "b" / "b.jpg").mkdir()
    (root / "b" / "b.jpg" / "1.jpg").write_bytes(making.jpeg(8))
    code, out, _ = run(capsys, f"--images={root}", f"--output={tmp_path / 'out'}")
    there = sum(len(names) for _, _, names in os.walk(root))
    counts = files.load_json(str(tmp_path / "out" / "report.json"))["files"]
    assert (
        code == 0 and counts["found"] == there + 1
    )  # the folder with an image's name is named beside the file in it
    assert counts == {"found": 24, "used": 6, "left_out": 4, "not_listed": 0, "passed_over": 14}
    assert (
        "files: 24 found: 6 used, 4 left out, 14 files passed over: "
        "2 .heic, 2 hidden, 2 without a suffix, 1 .avif" in out
    )


def test_the_report_and_the_summary_say_what_to_do(tmp_path, capsys):
    _, _, err = run(capsys, f"--images={fill(tmp_path / 'faces')}", f"--output={tmp_path / 'out'}")
    page = (tmp_path / "out" / "report.html").read_text()
    for said in (
        "HEIC data: convert it to JPEG, for example with: heif-convert",
        "JPEG data: rename it to .jpg",
    ):
        assert said in page and said in err
    (row,) = [
        row
        for row in files.load_json(str(tmp_path / "out" / "report.json"))["passed_over"]
        if row["suffix"] == ".mpo"
    ]
    assert row["files"] == 1 and row["example"] == "b/one.mpo"


def test_a_file_that_is_renamed_as_advised_is_used(tmp_path):
    root = fill(tmp_path, {"a/four.jpg_large": making.jpeg(50)})
    (line,) = folders.advise(folders.scan_folders([str(root)]).passed_over)
    assert line == ".jpg_large (a/four.jpg_large): JPEG data: rename it to .jpg"
    (root / "a" / "four.jpg_large").rename(root / "a" / "four.jpg")
    found = folders.scan_folders([str(root)])
    assert "a/four.jpg" in set(found.images["path"]) and not len(found.passed_over)


def test_of_images_that_a_list_does_not_name_the_number_is_told(tmp_path, capsys):
    root = fill(tmp_path / "faces", {"a/note.txt": b"x", "loose.jpg": b"x"})
    (tmp_path / "pairs.csv").write_text("image_a,image_b,label\na/a_0001.jpg,a/a_0002.jpg,1\n")
    _, out, _ = run(
        capsys,
        f"--images={root}",
        f"--output={tmp_path / 'out'}",
        f"--pairs_csv={tmp_path / 'pairs.csv'}",
    )
    assert (
        "files: 8 found: 2 used, 0 left out, 5 not in the list, 1 file passed over: 1 .txt" in out
    )


def test_a_list_that_names_a_file_of_another_format_is_refused(tmp_path, capsys):
    root = fill(tmp_path / "faces")
    flags = (
        f"--images={root}",
        f"--output={tmp_path / 'out'}",
        f"--pairs_csv={tmp_path / 'pairs.csv'}",
    )
    (tmp_path / "pairs.csv").write_text("image_a,image_b,label\na/a_0001.jpg,a/one.HEIC,1\n")
    code, _, err = run(capsys, *flags)
    assert (
        code == 2
        and "line 2: a/one.HEIC: '.HEIC' is not the suffix of an image that fv reads: "
        "convert the file"
        in err
    )


def test_a_folder_of_another_format_alone_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.heic").write_bytes(ODD["a/one.HEIC"])
    found = folders.scan_folders([str(tmp_path)])
    with pytest.raises(
        UserError, match="1 file passed over: 1 .heic; .heic .*: HEIC data: convert it to JPEG"
    ):
        sources.require_identities(found, "faces")


def test_few_files_of_a_suffix_are_opened(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(folders.files, "read_bytes", lambda path, *_: opened.append(path) or b"")
    paths = [f"{index:04d}.txt" for index in range(300)]
    for path in paths:
        (tmp_path / path).touch()
    table = folders.count(str(tmp_path), reversed(paths))
    assert table["files"].tolist() == [300] and len(opened) == 16
    assert table["example"].tolist() == ["0000.txt"]


def test_pipes_and_links_are_counted_and_never_opened(tmp_path):
    making.people(tmp_path / "faces", a=1)
    os.mkfifo(tmp_path / "faces" / "a" / "pipe.dat")
    (tmp_path / "secret").write_bytes(making.jpeg(1))
    (tmp_path / "faces" / "a" / "link.dat").symlink_to(tmp_path / "secret")
    assert rows(folders.scan_folders([str(tmp_path / "faces")]).passed_over) == {
        ".dat": (2, "a/link.dat", "")
    }


def test_a_name_that_is_not_utf8_is_counted(tmp_path):
    making.people(tmp_path, a=1)
    with open(os.fsencode(tmp_path) + b"/a/\xff.d\xffb", "wb") as file:
        file.write(b"x")
    assert rows(folders.scan_folders([str(tmp_path)]).passed_over) == {
        ".d\\xffb": (1, "a/\\xff.d\\xffb", "")
    }


def test_people_who_are_links_are_taken_after_the_copy_that_is_advised(tmp_path):
    making.people(tmp_path / "store", a=2, b=2)
    (tmp_path / "faces").mkdir()
    for name in ("a", "b"):
        (tmp_path / "faces" / name).symlink_to(tmp_path / "store" / name)
    (tmp_path / "faces" / "A.jpg").write_bytes(making.jpeg(5))
    found = folders.scan_folders([str(tmp_path / "faces")])
    with pytest.raises(
        UserError, match="2 of them are symbolic links: copy the images with cp -rL FROM TO"
    ) as refused:
        sources.require_identities(found, "faces")
    assert all("cp -rL FROM TO" in reason for reason in found.unusable["reason"][1:])
    assert len(str(refused.value).splitlines()) == 1
    subprocess.run(["cp", "-rL", tmp_path / "faces", tmp_path / "copy"], check=True)
    copied = folders.scan_folders([str(tmp_path / "copy")])
    assert copied.images["identity"].tolist() == ["a", "a", "b", "b"] and len(copied.unusable) == 1


def test_links_in_a_circle_and_to_nothing_are_unusable(tmp_path):
    making.people(tmp_path, a=1)
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "self.jpg").symlink_to("self.jpg")
    (tmp_path / "a" / "gone.jpg").symlink_to("nowhere.jpg")
    found = folders.scan_folders([str(tmp_path)])
    reasons = dict(zip(found.unusable["path"], found.unusable["reason"], strict=True))
    assert len(found.images) == 1 and set(reasons) == {"a/up", "a/self.jpg", "a/gone.jpg"}
    assert "to nothing" in reasons["a/self.jpg"] and "to nothing" in reasons["a/gone.jpg"]
    assert "cp -rL FROM TO" in reasons["a/up"]


def test_images_come_sorted_with_the_first_folder_as_identity(tmp_path):
    making.people(tmp_path, Zoë=1, Al=2)
    images, unusable, *_ = folders.scan_folders([str(tmp_path)])
    assert list(images["path"]) == ["Al/Al_0001.jpg", "Al/Al_0002.jpg", "Zoë/Zoë_0001.jpg"]
    assert list(images["identity"]) == ["Al", "Al", "Zoë"]
    assert unusable.empty


def test_nested_folders_spaces_and_upper_case_suffixes_are_taken(tmp_path):
    nested = tmp_path / "Ann Lee" / "2019" / "may"
    nested.mkdir(parents=True)
    (nested / "at home.JPEG").write_bytes(making.jpeg())
    images, *_ = folders.scan_folders([str(tmp_path)])
    assert list(images["path"]) == ["Ann Lee/2019/may/at home.JPEG"]
    assert list(images["identity"]) == ["Ann Lee"]


def test_hidden_files_and_files_that_are_no_images_by_name_are_passed_over(tmp_path):
    making.people(tmp_path, a=1)
    for name in ("a/.hidden.jpg", "a/notes.txt", "README"):
        (tmp_path / name).write_bytes(b"x")
    images, unusable, *_ = folders.scan_folders([str(tmp_path)])
    assert (len(images), len(unusable)) == (1, 0)


def test_what_cannot_be_an_image_is_unusable_with_its_reason(tmp_path):
    root = making.people(tmp_path / "images", a=1)
    (tmp_path / "secret.jpg").write_bytes(making.jpeg())
    (root / "a" / "out.jpg").symlink_to(tmp_path / "secret.jpg")
    (root / "away").symlink_to(tmp_path)
    (root / "a" / "folder.jpg").mkdir()
    (root / "loose.jpg").write_bytes(making.jpeg())
    os.mkfifo(root / "a" / "pipe.jpg")
    images, unusable, *_ = folders.scan_folders([str(root)])
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
    images, unusable, *_ = folders.scan_folders([str(tmp_path)])
    assert (len(images), len(unusable)) == (2, 0)


def test_a_link_to_itself_does_not_stop_the_scan(tmp_path):
    making.people(tmp_path, a=1)
    (tmp_path / "a" / "loop").symlink_to("loop")
    (tmp_path / "a" / "loop.jpg").symlink_to("loop.jpg")
    found = folders.scan_folders([str(tmp_path)])
    assert list(found.images["path"]) == ["a/a_0001.jpg"]
    assert dict(found.unusable.to_numpy()) == {
        "a/loop.jpg": "a symbolic link to nothing: remove it, or restore what it points to"
    }
    assert (len(found.images), len(found.unusable), found.passed_over["files"].sum()) == (1, 1, 1)


def test_a_name_that_is_not_utf8_is_unusable(tmp_path):
    making.people(tmp_path, a=1)
    with open(os.fsencode(tmp_path) + b"/a/\xff.jpg", "wb") as file:
        file.write(making.jpeg())
    _, unusable, *_ = folders.scan_folders([str(tmp_path)])
    assert list(unusable["path"]) == ["a/\\xff.jpg"]


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="nowhere is not a folder"):
        folders.scan_folders([str(tmp_path / "nowhere")])


@pytest.mark.parametrize(
    ("people", "message"), [({}, "no image"), ({"only": 3}, "one identity only \\('only'\\)")]
)
def test_fewer_than_two_identities_are_refused(tmp_path, people, message):
    catalog = folders.scan_folders([str(making.people(tmp_path, **people))])
    with pytest.raises(UserError, match=message):
        sources.require_identities(catalog, "images")
