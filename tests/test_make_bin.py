import pathlib
import pickle
import runpy

import pytest

from fv import cli
from tests.conversion import making

TOOL = runpy.run_path(str(pathlib.Path(__file__).parent.parent / "tools" / "make_bin.py"))


@pytest.fixture
def lists(tmp_path, monkeypatch):
    """A folder with people, a list of pairs and other files."""
    making.people(tmp_path / "images", Al=2, Bo=1)
    (tmp_path / "pairs.txt").write_text("1\nAl\t1\t2\nBo\t1\tAl\t2\n")
    (tmp_path / "pairs.csv").write_text("image_a,image_b,label\nAl/Al_0001.jpg,Bo/cut.jpg,0\n")
    (tmp_path / "images" / "Bo" / "cut.jpg").write_bytes(making.jpeg(1)[:-20])
    (tmp_path / "mine.bin").write_bytes(b"mine")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch, *flags):
    monkeypatch.setattr("sys.argv", ["make_bin.py", *flags])
    with pytest.raises(SystemExit) as done:
        cli.run(TOOL["main"], TOOL["Options"], description="x")
    return done.value.code or 0


def test_files_are_stored_unchanged_in_the_order_of_the_list(lists, monkeypatch):
    flags = ("--images=images", "--pairs_file=pairs.txt")
    assert run(monkeypatch, *flags, "--output=out.bin") == 0
    names = ("Al/Al_0001.jpg", "Al/Al_0002.jpg", "Bo/Bo_0001.jpg", "Al/Al_0002.jpg")
    images = [(lists / "images" / name).read_bytes() for name in names]
    assert pickle.loads((lists / "out.bin").read_bytes()) == (images, [True, False])
    assert run(monkeypatch, *flags, "--output=small.bin", "--store_size=8") == 0
    assert len((lists / "small.bin").read_bytes()) < len((lists / "out.bin").read_bytes())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--pairs_file=pairs.txt", "--output=mine.bin"], "--output=mine.bin exists"),
        (["--pairs_file=pairs.txt", "--output=x.pkl"], "--output=x.pkl is not a .bin file"),
        (["--output=x.bin"], "give --pairs_file or --pairs_csv"),
        (["--pairs_csv=pairs.csv", "--output=x.bin"], "Bo/cut.jpg: damaged JPEG"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(lists, monkeypatch, capsys, flags, message):
    assert run(monkeypatch, "--images=images", *flags) == cli.EXIT_ERROR
    said = capsys.readouterr().err.strip()
    assert message in said and len(said.splitlines()) == 1
    assert not (lists / "x.bin").exists() and (lists / "mine.bin").read_bytes() == b"mine"
