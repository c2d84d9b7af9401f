"""The figures of an evaluation as text for a terminal, and their wording, which the report shares."""


def render(content: dict) -> str:
    """The table of what metrics.json holds, a line a figure, its notes first."""
    held = "{split}: {genuine:,} genuine and {impostor:,} impostor pairs".format(**content)
    held += "" if content["step"] is None else f", step {content['step']}"
    rule = f"similarity >= {content['threshold']:.4f}, {content['threshold_rule']}"
    probability = content["probability"]
    lines = [
        *(f"NOTE: {note}" for note in content["notes"]),
        held,
        f"accuracy       {accuracy(content)}{_in_words(content, 'accuracy')}  {rule}",
        f"AUC            {content['auc']:.4f}{_in_words(content, 'auc')}",
        f"EER            {content['eer']:.4f}{_in_words(content, 'eer')}",
        *(
            f"{f'TAR@FAR {far}':15}{tar(point)}  {counts(point)}"
            for far, point in content["tar_at_far"].items()
        ),
        f"Brier score    {probability['brier']:.4f}  of the probability; calibration error "
        f"{probability['expected_calibration_error']:.4f}",
    ]
    baselines = content["baselines"]
    if baselines:
        lines += ["without learning, by the same rule:"]
        lines += [
            f"  {name:24}{accuracy(row)}  AUC {row['auc']:.4f}" for name, row in baselines.items()
        ]
    if content["run"].get("training_input"):  # given scores have none
        lines.append(content["run"]["training_input"])
    return "\n".join(lines)


def accuracy(figures: dict) -> str:
    """Accuracy with its standard error."""
    return f"{figures['accuracy']:.4f} ± {figures['accuracy_standard_error']:.4f}"


def interval(figures: dict, name: str, digits: int = 4) -> str:
    """The interval of a figure to that many digits, '–' where there is none."""
    found = figures.get("intervals", {}).get(name)
    return f"{found[0]:.{digits}f} – {found[1]:.{digits}f}" if found else "–"


def tar_interval(figures: dict, far: str) -> str:
    """As `interval`, of TAR at a FAR."""
    return interval({"intervals": figures.get("intervals", {}).get("tar_at_far", {})}, far)


def tar(point: dict) -> str:
    """TAR at a FAR, or that it is not measurable."""
    return "not measurable" if point["tar"] is None else f"{point['tar']:.4f}"


def counts(point: dict) -> str:
    """The counts behind TAR at a FAR."""
    if point["tar"] is None:
        return f"on {point['impostors']:,} impostor pairs"
    accepted = "{genuine_accepted:,} of {genuine:,} genuine, {impostors_accepted:,} of {impostors:,} impostor pairs accepted"
    return accepted.format(**point)


def _in_words(figures: dict, name: str) -> str:
    return f" ({interval(figures, name)})" if figures.get("intervals") else ""
