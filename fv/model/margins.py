"""The share of the softmax's margins that acts at a step: a pure function of the step, so a resumed run needs no state."""

import tensorflow as tf

from fv.errors import UserError


def rise_of(text: str) -> tuple[int, int]:
    """The steps 'A,B' between which the margins rise; (0, 0), whole from the first step on, where the text is empty.

    Raises:
      UserError: they are not two steps, the first not behind the second.
    """
    if not text:
        return 0, 0
    try:
        first, whole = map(int, text.split(","))
    except ValueError:
        first, whole = 0, -1
    if not 0 <= first <= whole:
        wrong = f"--softmax_margin_steps={text} names no two steps"
        raise UserError(
            f"{wrong}: give the last without a margin and the first with all of it, as in 200,600"
        )
    return first, whole


def share(step: tf.Tensor | int, first: int, whole: int) -> tf.Tensor:
    """The margins' share in the step that follows `step` others, float32 scalar: 0 up to `first`, 1 from `whole` on."""
    risen = (tf.cast(step, tf.float32) - first) / max(whole - first, 1)
    return tf.where(step >= whole, 1.0, tf.clip_by_value(risen, 0.0, 1.0))
