import numpy as np
import pytest
import tensorflow as tf

from fv.errors import UserError
from fv.model import margins


def test_the_margins_rise_linearly_between_the_two_steps():
    steps = tf.range(8)
    risen = [float(margins.share(step, *margins.rise_of("2,6"))) for step in steps]
    np.testing.assert_allclose(risen, [0, 0, 0, 0.25, 0.5, 0.75, 1, 1])


def test_one_step_twice_is_a_jump_and_no_steps_are_the_whole_margin_from_the_first_step_on():
    assert [float(margins.share(step, *margins.rise_of("3,3"))) for step in (2, 3)] == [0.0, 1.0]
    assert float(margins.share(0, *margins.rise_of(""))) == 1.0


@pytest.mark.parametrize("given", ["5", "6,5", "-1,4", "a,b", "1,2,3"])
def test_steps_that_are_none_are_refused_in_one_line(given):
    with pytest.raises(UserError, match=f"--softmax_margin_steps={given} names no two steps: give"):
        margins.rise_of(given)
