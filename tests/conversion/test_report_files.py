import json
import re

from fv.conversion import convert, settings
from tests.conversion import making


def convert_crowd(tmp_path, **flags):
    images = making.crowd(tmp_path / "images", identities=20, images=4)
    (images / "p000" / "empty.jpg").write_bytes(b"")
    (images / "p007" / "copy.jpg").write_bytes((images / "p003" / "p003_0001.jpg").read_bytes())
    made, _ = convert.convert(
        settings.Options(str(images), str(tmp_path / "out"), workers=2, **flags)
    )
    page = (tmp_path / "out" / "report.html").read_text()
    return made, json.loads((tmp_path / "out" / "report.json").read_text()), page


def test_the_report_tells_what_was_kept_and_why_the_rest_was_not(tmp_path):
    made, report, page = convert_crowd(tmp_path)
    assert report["images"] == report["images"] | {"found": 82, "kept": 79, "left_out": 3}
    assert {entry["path"] for entry in report["left_out"]["files"]} == {
        "p000/empty.jpg",
        "p003/p003_0001.jpg",
        "p007/copy.jpg",
    }
    assert report["copies"]["two_identities"]["exact"] == 1
    assert {name: split["genuine"] for name, split in report["splits"].items()} == {
        name: split.genuine for name, split in made.splits.items()
    }
    assert "empty file" in page and "p007/copy.jpg" in page


def test_the_page_shows_pairs_and_suspects_and_needs_no_other_file(tmp_path):
    _, _, page = convert_crowd(tmp_path)
    assert page.count("data:image/jpeg;base64,") == 2
    assert not re.search(r'(?:src|href)="(?!data:|#)', page) and "url(" not in page


def test_kept_copies_are_reported_all_the_same(tmp_path):
    _, report, _ = convert_crowd(tmp_path, keep_duplicates=True, store_size=16)
    assert report["images"]["kept"] == 81
    assert report["copies"]["two_identities"]["exact"] == 1


def test_the_same_conversion_writes_the_same_report(tmp_path):
    for name in ("a", "b"):
        images = making.crowd(tmp_path / name / "images", identities=20, images=4)
        convert.convert(settings.Options(str(images), str(tmp_path / name / "out"), workers=2))
    for name in ("report.json", "report.html"):
        assert (tmp_path / "a" / "out" / name).read_bytes() == (
            tmp_path / "b" / "out" / name
        ).read_bytes()
