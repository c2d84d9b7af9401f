"""Whether the people of an evaluation are strangers to the model: figures on others say nothing of strangers."""

from collections.abc import Sequence

from fv.errors import UserError
from fv.evaluation.pair_set import PairSet
from fv.model.model_record import ModelRecord

_NAMED = 5  # people that a message names


def check(
    record: ModelRecord, workdir: str, scored: PairSet, *, allowed: bool, exact: bool = False
) -> dict[str, bool | int | list[str]]:
    """Looks for training identities among the people of the pairs.

    Args:
      record: of the model.
      workdir: where it is, for messages.
      scored: the pairs that figures are to be of.
      allowed: report on them all the same.
      exact: whether names that differ only in how they are written are different people's.

    Returns:
      `known`: whether the workdir can tell; `people`, how many there are; `seen`, how many of them the model trained on.

    Raises:
      UserError: there are such people, or the workdir cannot tell, and that is not allowed.
    """
    people = scored.names()
    if record.identity_hashes is None:
        if not allowed:
            lacking = f"{workdir} does not say whom it was trained on (an older fv, or first weights from an export)"
            raise UserError(
                f"{lacking}: train it again, or give --allow_seen_identities to report without that check"
            )
        return dict(known=False, people=len(people), seen=0)
    seen = record.trained_on(people, exact)
    if seen and not allowed:
        found = f"{len(seen):,} of the {len(people):,} people in {scored.name} are training identities of {workdir}"
        spelled = sorted(set(seen) - set(record.trained_on(people, exact=True)))
        remedy = (
            f", or --nomerge_names if {_shorten(spelled)} was only written like one of them"
            if spelled
            else ""
        )
        raise UserError(
            f"{found} ({_shorten(seen)}): score strangers, or give --allow_seen_identities{remedy}"
        )
    return dict(known=True, people=len(people), seen=len(seen))


def note(found: dict, scored: PairSet) -> str:
    """What a report has to say about it; empty where all are strangers."""
    if not found["known"]:
        return "The workdir does not say whom the model was trained on: people of these pairs may be among them."
    if found["seen"]:
        trained = f"{found['seen']:,} of the {found['people']:,} people in {scored.name}"
        return f"The model was trained on {trained}: these figures do not hold for strangers."
    return ""


def shared(scored: PairSet, choosing: PairSet) -> str:
    """What a report has to say where the threshold was chosen on people who are scored; empty where it was not."""
    both = sorted(scored.names() & choosing.names())
    if not both:
        return ""
    return f"The threshold was chosen on pairs of {len(both):,} people who are scored too ({_shorten(both)})."


def trained_on(record: ModelRecord, choosing: PairSet, exact: bool = False) -> str:
    """What a report has to say where the threshold was chosen on training identities; empty where it was not."""
    people = choosing.names()
    seen = record.trained_on(people, exact) if record.identity_hashes is not None else []
    if not seen:
        return ""
    chosen = f"The threshold was chosen on {choosing.name}, where {len(seen):,} of {len(people):,} people are training identities"
    return f"{chosen}: their images look more alike to the model than strangers' do, and threshold and probability suffer."


def _shorten(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
