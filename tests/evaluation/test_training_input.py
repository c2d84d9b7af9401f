import json
import pathlib

from fv.evaluation import training_input
from fv.evaluation.run import EvaluateOptions, evaluate


def run_of(folder: pathlib.Path, *ended: dict | None) -> str:
    (folder / "run.json").write_text(json.dumps({"starts": [{"ended": each} for each in ended]}))
    return training_input.verdict(str(folder))


def test_the_last_start_that_ended_with_a_step_says_it(tmp_path):
    assert run_of(tmp_path, {"input_verdict": "first"}, {"input_verdict": "second"}) == "second"
    assert run_of(tmp_path, {"input_verdict": "first"}, {"input_verdict": None}, None) == "first"


def test_nothing_is_said_of_a_run_that_did_not_say_it(tmp_path):
    assert training_input.verdict(str(tmp_path)) == ""
    assert run_of(tmp_path, None) == run_of(tmp_path, {"reason": "finished"}) == ""


def test_an_evaluation_says_it_on_the_terminal_in_its_figures_and_in_its_report(
    trained, tmp_path, capsys
):
    evaluate(
        EvaluateOptions(
            workdir=trained.workdir, tfrecords=trained.tfrecords, output=str(tmp_path), bootstrap=20
        )
    )
    said = training_input.verdict(trained.workdir)
    assert "of the training time was spent waiting for input: " in said
    assert capsys.readouterr().out.splitlines()[-1] == said
    assert json.loads((tmp_path / "metrics.json").read_text())["run"]["training_input"] == said
    assert said.partition(":")[0] in (tmp_path / "report.html").read_text()
