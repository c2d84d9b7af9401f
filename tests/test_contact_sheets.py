"""Tests of fv.contact_sheets."""

import numpy as np
import pytest

from fv import contact_sheets

IMAGES = [np.full((4, 6, 3), value, np.uint8) for value in (10, 20, 30)]


def test_images_fill_rows_with_white_between_and_after_them():
    sheet = contact_sheets.tile(IMAGES, columns=2, gap=1)
    assert sheet.shape == (4 + 1 + 4, 6 + 1 + 6, 3)
    assert (sheet[0, 0, 0], sheet[0, 7, 0], sheet[5, 0, 0]) == (10, 20, 30)
    assert sheet[4].min() == sheet[:, 6].min() == sheet[5:, 7:].min() == 255


@pytest.mark.parametrize("columns, width", [(1, 6), (5, 18)])
def test_a_sheet_is_no_wider_than_its_images(columns, width):
    assert contact_sheets.tile(IMAGES, columns, gap=0).shape[1] == width
