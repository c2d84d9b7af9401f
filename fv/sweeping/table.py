"""sweep.md: the tables of a sweep in Markdown, ready to paste."""

from collections.abc import Iterable, Sequence

from fv.sweeping import attempts, results

_NOTE = (
    "± is the standard deviation over seeds; every run is scored on the same pairs, so it says nothing of other people. CPU "
    "time is of training and evaluation, a run."
)
_DIFFERENCE_NOTE = (
    "Differences to {baseline} on the same seeds, ± the standard error of their mean; 'within noise' where Student's 95 % "
    "interval holds 0. Of twenty differences that are nothing, one is expected to look like something."
)


def render(content: dict) -> str:
    """The tables of what sweep.json holds: figures, differences, and what is not finished."""
    variants = {name: found for name, found in content["variants"].items() if found["figures"]}
    baseline = next(iter(content["variants"]))
    parts = [_origin(content), _figures(content, variants), _NOTE] if variants else []
    if any(found["differences"] for found in variants.values()):
        parts += [_differences(variants), _DIFFERENCE_NOTE.format(baseline=f"'{baseline}'")]
    return "\n\n".join([*parts, *_unfinished(content["runs"])]) + "\n"


def _origin(content: dict) -> str:
    pairs = " and ".join(f"{count:,} pairs of {name}" for name, count, _ in content["pairs"])
    other = (
        " **These runs were not scored on the same pairs.**" if len(content["pairs"]) > 1 else ""
    )
    machine = content["machine"]
    return f"{pairs}; {machine['cores']} cores, {machine['processor']}, Python {machine['python']}.{other}"


def _figures(content: dict, variants: dict[str, dict]) -> str:
    columns = _columns(found["figures"] for found in variants.values())
    rows = []
    for name, found in variants.items():
        cells = [_summary(found["figures"].get(column)) for column in columns]
        finished = [
            run
            for run in content["runs"]
            if run["variant"] == name and run["state"] == results.FINISHED
        ]
        rows.append([name, str(len(finished)), *cells, _minutes(finished)])
    return _table(["variant", "seeds", *columns, "CPU minutes"], rows)


def _differences(variants: dict[str, dict]) -> str:
    columns = _columns(found["differences"] for found in variants.values())
    compared = {
        name: found["differences"] for name, found in variants.items() if found["differences"]
    }
    rows = [
        [name, *(_difference(found.get(column)) for column in columns)]
        for name, found in compared.items()
    ]
    return _table(["variant", *(f"Δ {column}" for column in columns)], rows)


def _columns(found: Iterable[dict]) -> list[str]:
    """Names in their order; a TAR that no variant can measure is in none of them."""
    return list(dict.fromkeys(name for names in found for name in names))


def _summary(figure: dict | None) -> str:
    if figure is None:
        return "not measurable"
    spread = f" ± {figure['deviation']:.4f}" if figure["deviation"] is not None else ""
    return f"{figure['mean']:.4f}{spread}"


def _difference(found: dict | None) -> str:
    if found is None:
        return "–"
    if found["standard_error"] is None:
        return f"{found['mean']:+.4f}, one seed"
    noise = ", within noise" if found["within_noise"] else ""
    return f"{found['mean']:+.4f} ± {found['standard_error']:.4f}{noise}"


def _minutes(runs: Sequence[dict]) -> str:
    """Mean CPU minutes of the runs whose every attempt was timed; '≥' where only others are there."""
    parts = [[run[stage] for stage in attempts.STAGES] for run in runs]
    timed = [part for part in parts if all(cost["complete"] for cost in part)]
    used = timed or parts
    mean = sum(cost["cpu_seconds"] for part in used for cost in part) / len(used) / 60
    return f"{'' if timed else '≥ '}{mean:.1f}"


def _unfinished(runs: Sequence[dict]) -> list[str]:
    """A line for the seeds of a variant that are in the same state for the same reason."""
    left: dict[tuple, list[str]] = {}
    for run in runs:
        if run["state"] != results.FINISHED:
            left.setdefault((run["variant"], run["state"], run["reason"]), []).append(
                str(run["seed"])
            )
    if not left:
        return []
    count = sum(len(seeds) for seeds in left.values())
    lines = [
        f"- {name}, seed {', '.join(seeds)}: {': '.join(filter(None, why))}"
        for (name, *why), seeds in left.items()
    ]
    return ["\n".join([f"Not in these tables, {count} of {len(runs)} runs:", "", *lines])]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
