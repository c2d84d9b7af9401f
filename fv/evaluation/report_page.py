"""The report of an evaluation as a page (`fv/templates/evaluation.html`)."""

import json
from collections.abc import Mapping

from fv import page, record
from fv.evaluation import table

_WORST = {
    record.GENUINE: "Genuine pairs with the lowest similarity",
    record.IMPOSTOR: "Impostor pairs with the highest similarity",
}


def render(content: dict, drawn: Mapping[str, bytes], worst: Mapping[int, bytes]) -> str:
    """Renders the whole page, which needs no other file.

    Args:
      content: of metrics.json.
      drawn: PNG bytes of roc.png, det.png, histogram.png, reliability.png and embeddings.png.
      worst: JPEG bytes of a sheet of the pairs that are decided worst, by label.

    Returns:
      HTML, the same for the same arguments.
    """
    run, training = content["run"], content["run"]["training"] or {}
    facts = {name: value for name, value in run.items() if not isinstance(value, dict | None)}
    flags = [*run["model"].items(), *run["flags"].items()]
    return page.render(
        "evaluation.html",
        title=f"Evaluation on {content['split']}",
        content=content,
        drawn=drawn,
        worst={caption: worst[label] for label, caption in _WORST.items()},
        table=table,
        named={"this model": content} | content["baselines"],
        run=[*facts.items(), ("pairs_sha256", content["pairs_sha256"])],
        run_flags=[(name, json.dumps(value)) for name, value in flags],
        training=[
            (name, value)
            for name, value in training.items()
            if name != "flags" and value is not None
        ],
        training_flags=training.get("flags", {}).items(),
    )
