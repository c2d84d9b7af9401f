import csv
import errno
import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from fv import cleaning, contact_sheets, embedding_files, files
from fv.cleaning import FAR, SAME_PERSON, TWO_PEOPLE
from fv.conversion import convert
from fv.conversion.options import ConvertOptions
from fv.embedding_files import Embeddings
from fv.errors import TemporaryError, UserError
from tests import samples
from tests.evaluation.making import record_progress
from tools import clean

IMAGES = 6  # of each of 40 people


def make(wrong: dict[int, str] | None = None) -> Embeddings:
    """People with a direction each; `wrong` replaces the identities of some images."""
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.normal(size=(40, 32)), IMAGES, axis=0)
    vectors += rng.normal(size=vectors.shape, scale=0.4)
    names = np.array([f"person_{row // IMAGES:03d}" for row in range(len(vectors))])
    paths = np.array([f"{name}/{row % IMAGES:04d}.jpg" for row, name in enumerate(names)])
    for row, name in (wrong or {}).items():
        names[row] = name
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Embeddings(paths, names, vectors.astype(np.float32))


def test_right_labels_are_not_doubted():
    assert cleaning.find_doubts(make()) == []


def test_an_image_far_from_its_person_is_found_with_the_person_it_shows():
    (found,) = cleaning.find_doubts(make({3: "person_005"}))
    assert (found.kind, found.identity, found.other) == (FAR, "person_005", "person_000")
    assert found.images.tolist() == [3] and found.shown[0] == 3


def test_the_progress_counts_far_images_and_people(monkeypatch):
    shown = record_progress(monkeypatch)
    cleaning.find_doubts(make({3: "person_005"}))
    assert [line.total for line in shown] == [40, 1, 40]  # people, far images, people
    assert all(line.n == line.total for line in shown)


def test_a_folder_of_two_people_gives_the_images_of_the_smaller_part():
    (found,) = cleaning.find_doubts(make(dict.fromkeys(range(6, 10), "person_000")))[:1]
    assert (found.kind, found.identity) == (TWO_PEOPLE, "person_000")
    assert found.images.tolist() == [6, 7, 8, 9]


def test_two_folders_of_one_person_are_found():
    found = cleaning.find_doubts(make(dict.fromkeys((0, 1), "again")))[-1]
    assert (found.kind, found.identity, found.other) == (SAME_PERSON, "again", "person_000")
    assert found.images.tolist() == [0, 1]


@pytest.mark.filterwarnings("error")
def test_equal_embeddings_and_people_with_one_image_are_not_doubted():
    for people in (["a", "a", "b", "b"], ["a", "b", "c", "d"], 2 * ["a", "a", "b", "b"]):
        vectors = np.tile(np.float32([1, 0]), (len(people), 1))
        paths = np.arange(len(people)).astype(str)
        assert not cleaning.find_doubts(Embeddings(paths, np.array(people), vectors))


def write_embeddings(path: pathlib.Path, held: Embeddings) -> str:
    np.savez(path, path=held.paths, identity=held.identities, embedding=held.vectors)
    return str(path)


def test_the_converter_leaves_out_what_the_table_lists(tmp_path, capsys):
    folder = samples.write_images(tmp_path / "faces", 40, IMAGES)
    wrong = make({3: "person_005", 100: "person_020"})
    held = write_embeddings(tmp_path / "all.npz", wrong)
    output = tmp_path / "doubts"
    clean.main(clean.Options(held, str(output), images=str(folder)))
    assert "far               2 findings, 2 images" in capsys.readouterr().out
    with Image.open(output / "far.jpg") as sheet:
        assert sheet.width > 200
    shards = tmp_path / "shards"
    chosen = ConvertOptions(
        str(folder), str(shards), workers=1, pairs=60, exclude=str(output / clean.TABLE)
    )
    _, left_out = convert.convert(chosen)
    paths = {str(wrong.paths[row]) for row in (3, 100)}
    assert set(left_out["path"]) == paths
    assert "far from the other images of person_005, nearest to person_000" in "".join(
        left_out["reason"]
    )
    with open(shards / "left_out.csv") as file:
        assert {row["path"] for row in csv.DictReader(file)} == paths


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({}, r"line 2: nobody/1\.jpg is no image of .*: give paths as in the data set"),
        ({"pairs_csv": "pairs.csv"}, r"--exclude=.* would change the protocol of pairs\.csv"),
    ],
)
def test_a_list_to_exclude_that_cannot_be_used_is_refused(flags, message, tmp_path):
    folder = samples.write_images(tmp_path / "faces", 6, 3)
    listed = tmp_path / "out.csv"
    listed.write_text("path\nnobody/1.jpg\n")
    chosen = ConvertOptions(
        str(folder), str(tmp_path / "s"), exclude=str(listed), workers=1, **flags
    )
    with pytest.raises(UserError, match=message):
        convert.convert(chosen)


def test_embeddings_of_one_person_are_refused(tmp_path):
    held = make()
    one = held._replace(identities=np.full(len(held.paths), "one"))
    with pytest.raises(UserError, match="fewer than two people"):
        clean.main(clean.Options(write_embeddings(tmp_path / "a.npz", one), str(tmp_path / "out")))
    assert embedding_files.read(str(tmp_path / "a.npz")).paths.tolist() == held.paths.tolist()


WRONG = {3: "person_005", 100: "person_020"}


def clean_up(folder: pathlib.Path, held: Embeddings, **flags) -> pathlib.Path:
    """Runs the tool into folder/doubts, which it returns."""
    source = write_embeddings(folder / "all.npz", held)
    clean.main(clean.Options(source, str(folder / "doubts"), **flags))
    return folder / "doubts"


@pytest.mark.parametrize("name", ["missing", "all.tar"])
def test_images_that_are_no_folder_are_refused_before_anything_is_written(tmp_path, name):
    (tmp_path / "all.tar").write_bytes(b"")
    with pytest.raises(UserError, match=f"{name} is not a folder: give .* leave out --images"):
        clean_up(tmp_path, make(WRONG), images=str(tmp_path / name))
    assert not (tmp_path / "doubts").exists()


def test_the_images_that_cannot_be_read_are_counted(tmp_path, capsys):
    folder = samples.write_images(tmp_path / "faces", 40, IMAGES)
    (folder / "person_000" / "0003.jpg").unlink()
    clean_up(tmp_path, make({3: "person_005"}), images=str(folder))
    said = capsys.readouterr().out
    assert "1 images of the contact sheets cannot be read below --images=" in said
    assert "person_000/0003.jpg: No such file or directory" in said


def test_an_image_that_a_disk_fails_to_read_ends_the_command(tmp_path, monkeypatch):
    read_bytes = files.read_bytes

    def fail(path: str, *arguments) -> bytes:
        if path.endswith(".jpg"):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return read_bytes(path, *arguments)

    monkeypatch.setattr(files, "read_bytes", fail)
    with pytest.raises(TemporaryError, match="Input/output error: .*person_000/0003.jpg"):
        clean_up(tmp_path, make({3: "person_005"}), images=str(tmp_path))
    assert not (tmp_path / "doubts" / clean.TABLE).exists()


def test_images_without_an_identity_are_passed_over_and_counted(tmp_path, capsys):
    # Those of the first two people would be a folder of two people.
    unnamed = {row: " " * (row % 2) for row in range(2 * IMAGES)}
    output = clean_up(tmp_path, make(unnamed | {100: "person_020"}))
    assert "12 images without an identity are passed over" in capsys.readouterr().out
    with open(output / clean.TABLE) as file:
        assert [row["path"] for row in csv.DictReader(file)] == ["person_016/0004.jpg"]


@pytest.mark.parametrize("second", ["without findings", "without images"])
def test_the_sheets_of_an_earlier_run_are_removed_but_not_those_of_others(tmp_path, second):
    folder = samples.write_images(tmp_path / "faces", 40, IMAGES)
    output = clean_up(tmp_path, make(WRONG), images=str(folder))
    assert (output / "far.jpg").exists()
    if second == "without findings":
        clean_up(tmp_path, make(), images=str(folder))
    else:
        (output / "two_people.jpg").write_text("mine")
        clean_up(tmp_path, make(WRONG))
        assert (output / "two_people.jpg").read_text() == "mine"
    assert not (output / "far.jpg").exists() and (output / clean.TABLE).exists()


def test_a_sheet_shows_no_more_than_it_has_room_for(tmp_path, monkeypatch):
    drawn = []
    draw_pairs = contact_sheets.draw_pairs

    def draw(pairs, **others):
        drawn.append(len(pairs))
        return draw_pairs(pairs, **others)

    monkeypatch.setattr(contact_sheets, "MAX_PAIRS", 1)
    monkeypatch.setattr(contact_sheets, "draw_pairs", draw)
    output = clean_up(tmp_path, make(WRONG), images=str(tmp_path), pairs=2000)
    assert drawn == [1]
    with open(output / clean.TABLE) as file:
        assert len(list(csv.DictReader(file))) == 2
