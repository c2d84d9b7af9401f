import csv
import io
import json

import pytest
from PIL import Image

from fv import cli, verify
from fv.errors import UserError
from tests import samples
from tests.serving import loading


@pytest.fixture
def answer(call, exported, monkeypatch):
    """Runs the command line in this process: (exit code, stdout, stderr)."""
    monkeypatch.setattr("tensorflow.saved_model.load", loading.load)

    def run(*arguments) -> tuple[int, str, str]:
        done = call(verify.run, f"--model={exported}", *arguments)
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def images(tmp_path):
    """Two images of one person and one of another."""
    paths = [tmp_path / f"{name}.jpg" for name in ("a", "b", "c")]
    for path, (identity, image) in zip(paths, ((12, 0), (12, 1), (15, 0)), strict=True):
        path.write_bytes(samples.image_bytes(identity, image))
    return paths


def test_the_exit_code_is_the_verdict(answer, images):
    assert answer("--threshold=0", *images[::2])[0] == verify.EXIT_SAME
    code, said, _ = answer("--threshold=1", *images[::2])
    assert code == verify.EXIT_DIFFERENT and said.startswith("different people: similarity 0.")


def test_json_has_every_field_of_the_verdict(answer, images):
    code, said, _ = answer("--json", images[0], images[0])
    verdict = json.loads(said)
    assert (
        code == 0
        and set(verdict) == {"same", "similarity", "threshold", "probability", "distance"}
        and verdict["same"]
    )


def test_a_picture_shows_both_images(answer, images, tmp_path):
    answer(f"--picture={tmp_path / 'verdict.png'}", *images[:2])
    picture = Image.open(io.BytesIO((tmp_path / "verdict.png").read_bytes()))
    assert picture.format == "PNG" and picture.width > 500


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (samples.image_bytes(12, 1)[:300], "other.jpg is no whole JPEG"),
        (b"no image", "other.jpg cannot be used: not an image"),
    ],
)
def test_a_file_that_is_no_whole_image_gets_one_line(answer, images, tmp_path, data, reason):
    (tmp_path / "other.jpg").write_bytes(data)
    code, said, complaint = answer(images[0], tmp_path / "other.jpg")
    assert code == cli.EXIT_ERROR and said == ""
    assert complaint.count("\n") == 1 and reason in complaint


def test_a_table_of_pairs_gets_a_table_of_verdicts_and_its_figures(answer, images, tmp_path):
    (tmp_path / "cut.jpg").write_bytes(images[0].read_bytes()[:-200])
    rows = ["a.jpg,b.jpg,1,x", "a.jpg,c.jpg,0,y", "c.jpg,none.jpg,0,z", "a.jpg,cut.jpg,1,w"]
    (tmp_path / "pairs.csv").write_text("\n".join(["image_a,image_b,label,note", *rows]))
    code, said, complaint = answer(f"--pairs_csv={tmp_path / 'pairs.csv'}", "--json")
    summary = json.loads(said)
    assert complaint == "", "libjpeg writes there of what is cut short"
    assert (
        code == 0
        and (summary["pairs"], summary["answered"]) == (4, 2)
        and {"accuracy", "auc"} <= set(summary)
    )
    with open(tmp_path / "pairs-verdicts.csv") as file:
        answers = list(csv.DictReader(file))
    assert [row["note"] for row in answers] == ["x", "y", "z", "w"] and answers[2]["same"] == ""
    assert answers[2]["error"].endswith("none.jpg is no file") and answers[0]["error"] == ""
    assert "cut.jpg is no whole JPEG" in answers[3]["error"]
    alone = json.loads(answer("--json", *images[:2])[1])
    assert float(answers[0]["similarity"]) == pytest.approx(alone["similarity"], abs=1e-6)


@pytest.mark.parametrize(
    "mine",
    ["person,notes\nAda,friend\n", "image_a,image_b,same,notes\na.jpg,b.jpg,1,ask\n", "\xff"],
)
def test_verdicts_replace_no_foreign_file_of_the_made_up_name(answer, images, tmp_path, mine):
    (tmp_path / "pairs.csv").write_text("image_a,image_b\na.jpg,b.jpg\n")
    verdicts = tmp_path / "pairs-verdicts.csv"
    verdicts.write_text(mine, encoding="latin-1")
    code, _, complaint = answer(f"--pairs_csv={tmp_path / 'pairs.csv'}")
    assert (
        code == cli.EXIT_ERROR
        and "pairs-verdicts.csv is there and is no table of verdicts on" in complaint
    )
    assert verdicts.read_text(encoding="latin-1") == mine
    verdicts.unlink()
    for _ in range(2):
        assert answer(f"--pairs_csv={tmp_path / 'pairs.csv'}")[0] == 0


def test_verdicts_are_written_again_despite_blanks_in_the_header(answer, images, tmp_path):
    (tmp_path / "pairs.csv").write_text("\nimage_a, image_b , note\na.jpg,b.jpg,x\n")
    for _ in range(2):
        assert answer(f"--pairs_csv={tmp_path / 'pairs.csv'}")[0] == 0


def test_a_file_that_is_read_is_not_written_over(answer, images, tmp_path):
    (tmp_path / "pairs.csv").write_text("image_a,image_b\na.jpg,b.jpg\n")
    table = f"--pairs_csv={tmp_path / 'pairs.csv'}"
    for arguments in (
        (table, f"--output={tmp_path / 'pairs.csv'}"),
        (f"--picture={images[1]}", *images[:2]),
    ):
        code, _, complaint = answer(*arguments)
        assert code == cli.EXIT_ERROR and "is a file that this command reads" in complaint
    assert (tmp_path / "pairs.csv").read_text() == "image_a,image_b\na.jpg,b.jpg\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("image_a,image\na,b\n", "no column image_b"),
        ("image_a,image_b\n", "has no row"),
        ("image_a,image_b\nx,y\n", "not one of"),
    ],
)
def test_a_table_that_cannot_be_used_gets_one_line(answer, tmp_path, content, said):
    (tmp_path / "pairs.csv").write_text(content)
    code, _, complaint = answer(f"--pairs_csv={tmp_path / 'pairs.csv'}")
    assert code == cli.EXIT_ERROR and complaint.count("\n") == 1 and said in complaint
    assert not (tmp_path / "pairs-verdicts.csv").exists()


def test_rows_without_a_label_are_named_and_not_in_the_figures(answer, images, tmp_path):
    rows = ["a.jpg,b.jpg,1", "a.jpg,c.jpg, 0 ", "b.jpg,c.jpg,", "a.jpg,c.jpg,  "]
    (tmp_path / "pairs.csv").write_text("\n".join(["image_a,image_b,label", *rows]))
    code, said, complaint = answer(
        f"--pairs_csv={tmp_path / 'pairs.csv'}", "--json", "--threshold=0"
    )
    summary = json.loads(said)
    assert code == 0 and (summary["pairs"], summary["answered"], summary["labelled"]) == (4, 4, 2)
    assert (summary["accuracy"], summary["false_accept_rate"], summary["false_reject_rate"]) == (
        0.5,
        1.0,
        0.0,
    )
    assert (
        "2 of 4 rows have no label, the first in line 4: the figures are of the others" in complaint
    )


def test_a_figure_that_lacks_a_label_is_null_and_not_measurable(answer, images, tmp_path):
    (tmp_path / "pairs.csv").write_text("image_a,image_b,label\na.jpg,b.jpg,1\na.jpg,c.jpg,true\n")
    flags = (f"--pairs_csv={tmp_path / 'pairs.csv'}", "--threshold=0")
    summary = json.loads(answer(*flags, "--json")[1])
    assert (summary["accuracy"], summary["false_reject_rate"]) == (1.0, 0.0)
    assert summary["false_accept_rate"] is None and summary["auc"] is None
    said = answer(*flags)[1]
    assert "false accept rate not measurable" in said and "AUC not measurable" in said
    assert "nan" not in said


def test_a_summary_is_a_few_short_lines(answer, images, tmp_path):
    table, output = tmp_path / "pairs.csv", tmp_path / "answers.csv"
    flags = (f"--pairs_csv={table}", f"--output={output}", "--threshold=0")
    table.write_text("image_a,image_b\na.jpg,b.jpg\nc.jpg,none.jpg\n")
    counts = "2 pairs, 1 answered, 1 of them the same person"
    assert answer(*flags)[1].splitlines() == [counts, f"verdicts: {output}"]
    table.write_text("image_a,image_b,label\na.jpg,b.jpg,\nc.jpg,none.jpg,0\n")
    without = [counts, "no answered pair has a label", f"verdicts: {output}"]
    assert answer(*flags)[1].splitlines() == without
    table.write_text("image_a,image_b,label\na.jpg,b.jpg,1\na.jpg,c.jpg,0\n")
    said = answer(*flags)[1].splitlines()
    figures = json.loads(answer(*flags, "--json")[1])
    assert said == [
        "2 pairs, 2 answered, 2 of them the same person",
        "2 labelled pairs at threshold 0.0000:",
        f"  accuracy 0.5000, AUC {figures['auc']:.4f}",
        "  false accept rate 1.0000",
        "  false reject rate 0.0000",
        f"verdicts: {output}",
    ]


def test_a_label_that_is_none_is_refused_before_a_verdict_is_written(answer, images, tmp_path):
    (tmp_path / "pairs.csv").write_text("image_a,image_b,label\na.jpg,b.jpg,1\na.jpg,c.jpg,same\n")
    code, _, complaint = answer(f"--pairs_csv={tmp_path / 'pairs.csv'}")
    assert code == cli.EXIT_ERROR and "pairs.csv, line 3: label 'same' is neither 1" in complaint
    assert not (tmp_path / "pairs-verdicts.csv").exists()


def test_other_columns_and_odd_paths_come_out_as_they_went_in(answer, images, tmp_path):
    names = ["NA", 'b, the "2nd" ü.jpg', " a .jpg", "-dash.jpg", "a\nb.jpg"]
    for name in names:
        (tmp_path / name).write_bytes(images[0].read_bytes())
    notes = ["007", "null", "1e5", "True", "x\ry"]
    with open(tmp_path / "pairs.csv", "w", newline="") as file:
        csv.writer(file).writerows(
            [
                ["image_a", "image_b", "note", "note"],
                *([n, "./a.jpg", t, t] for n, t in zip(names, notes, strict=True)),
            ]
        )
    assert answer(f"--pairs_csv={tmp_path / 'pairs.csv'}")[0] == 0
    with open(tmp_path / "pairs-verdicts.csv", newline="") as file:
        header, *rows = csv.reader(file)
    assert header[:4] == ["image_a", "image_b", "note", "note"] and header[-1] == "error"
    assert [row[:4] for row in rows] == [
        [n, "./a.jpg", t, t] for n, t in zip(names, notes, strict=True)
    ]
    assert all(row[-1] == "" and float(row[5]) == pytest.approx(1) for row in rows)


def test_a_column_whose_name_is_nearly_label_is_named_as_unread(answer, images, tmp_path):
    (tmp_path / "pairs.csv").write_text("image_a,image_b,Label\na.jpg,b.jpg,1\n")
    code, said, complaint = answer(f"--pairs_csv={tmp_path / 'pairs.csv'}", "--json")
    assert code == 0 and "accuracy" not in json.loads(said)
    assert "NOTE: column 'Label' is not read: name it label to get figures" in complaint


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (dict(picture="a.png", pairs_csv="pairs.csv"), "--picture=a.png shows two images"),
        (dict(output="out.csv"), "--output=out.csv is for the verdicts on --pairs_csv"),
    ],
)
def test_a_flag_that_would_do_nothing_is_refused(flags, said):
    images = () if "pairs_csv" in flags else ("a.jpg", "b.jpg")
    with pytest.raises(UserError, match=said):
        verify.verify(verify.VerifyOptions(model="none", **flags), *images)
