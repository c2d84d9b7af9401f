import errno
import os

import pytest
import tensorflow as tf

from fv.errors import UserError
from fv.training.saving import full_disk

FULL = os.strerror(errno.ENOSPC)


@pytest.mark.parametrize(
    "raised",
    [
        OSError(errno.ENOSPC, FULL, "run/train.flags"),
        tf.errors.ResourceExhaustedError(None, None, f"/run/tensorboard/events; {FULL}"),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
    ],
)
def test_whatever_could_not_be_written_it_is_one_line(raised):
    told = pytest.raises(UserError, match=r"^runs/a takes no more \((No space|Disk quota).*\): make room.*$")
    with told, full_disk.told("runs/a"):
        raise raised


def test_other_errors_stay_what_they_are():
    with pytest.raises(tf.errors.ResourceExhaustedError, match="OOM"), full_disk.told("runs/a"):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
    with pytest.raises(PermissionError), full_disk.told("runs/a"):
        raise PermissionError(errno.EACCES, "Permission denied", "run")
