"""Tests of fv.contact_sheets."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fv import contact_sheets, record
from fv.conversion.image_files import MAX_JPEG_SIDE
from tests.conversion import making

IMAGES = [np.full((4, 6, 3), value, np.uint8) for value in (10, 20, 30)]


def test_images_fill_rows_with_white_between_and_after_them():
    sheet = contact_sheets.tile(IMAGES, columns=2, gap=1)
    assert sheet.shape == (4 + 1 + 4, 6 + 1 + 6, 3)
    assert (sheet[0, 0, 0], sheet[0, 7, 0], sheet[5, 0, 0]) == (10, 20, 30)
    assert sheet[4].min() == sheet[:, 6].min() == sheet[5:, 7:].min() == 255


@pytest.mark.parametrize("columns, width", [(1, 6), (5, 18)])
def test_a_sheet_is_no_wider_than_its_images(columns, width):
    assert contact_sheets.tile(IMAGES, columns, gap=0).shape[1] == width


def pair(label, a=None, b=None, caption="Ann"):
    return contact_sheets.Pair(a or making.jpeg(1), b or making.jpeg(2), label, caption, caption)


def flat(colour, size=(50, 50)):
    return making.encode(Image.new("RGB", size, colour), quality=95)


def near(drawn, colour):
    """Which columns of the drawing hold the colour."""
    return np.flatnonzero(
        (np.abs(np.asarray(drawn).astype(int) - colour).max(axis=2) < 12).any(axis=0)
    )


def test_genuine_pairs_stand_left_and_impostor_pairs_right():
    red, blue = (220, 20, 20), (20, 20, 220)
    pairs = [
        pair(record.IMPOSTOR, flat(blue), flat(blue)),
        pair(record.GENUINE, flat(red), flat(red)),
    ]
    drawn = contact_sheets.draw_pairs(pairs, columns=2)
    assert near(drawn, red).max() < drawn.width / 2 < near(drawn, blue).min()


def test_one_kind_takes_all_columns():
    genuine = [pair(record.GENUINE)] * 4
    assert (
        contact_sheets.draw_pairs(genuine, columns=4).height
        < contact_sheets.draw_pairs(genuine, columns=2).height
    )
    assert (
        contact_sheets.draw_pairs([], columns=2).width
        == contact_sheets.draw_pairs(genuine, columns=2).width
    )


@pytest.mark.parametrize("size", [(400, 100), (100, 400), (1, 1)])
def test_an_image_of_any_shape_keeps_its_proportions(size):
    green = (20, 200, 20)
    drawn = np.asarray(
        contact_sheets.draw_pairs([pair(record.GENUINE, flat(green, size))], columns=2, side=80)
    ).astype(int)
    rows, columns = np.nonzero(np.abs(drawn - green).max(axis=2) < 12)
    width, height = np.ptp(columns) + 1, np.ptp(rows) + 1
    assert max(width, height) == 80 and width / height == pytest.approx(size[0] / size[1], rel=0.1)


@pytest.mark.parametrize(
    "caption", ["", "José Ólafur", "Ангела", "李小龍", "محمد", "\udcff", "x" * 500, "a\nb"]
)
def test_any_name_can_stand_below_an_image(caption):
    drawn = contact_sheets.draw_pairs([pair(record.GENUINE, caption=caption)], columns=2)
    assert drawn.size == contact_sheets.draw_pairs([pair(record.GENUINE)], columns=2).size


def test_letters_beyond_ascii_are_drawn_as_such():
    drawn = [
        contact_sheets.draw_pairs([pair(record.GENUINE, caption=name)]).tobytes()
        for name in ("é", "ñ", "ж", "\uffff")
    ]
    assert len(set(drawn)) == 4


def test_bytes_that_cannot_be_decoded_leave_an_empty_frame():
    for damaged in (b"", b"\xff\xd8\xff", making.jpeg(1)[:60], b"GIF89a"):
        contact_sheets.draw_pairs([pair(record.GENUINE, b=damaged or b"\0")])


def test_the_same_pairs_give_the_same_bytes():
    drawn = contact_sheets.draw_pairs([pair(0), pair(1)])
    assert contact_sheets.to_jpeg(drawn) == contact_sheets.to_jpeg(
        contact_sheets.draw_pairs([pair(0), pair(1)])
    )
    assert Image.open(io.BytesIO(contact_sheets.to_jpeg(drawn))).size == drawn.size


def test_the_most_pairs_of_a_sheet_fit_into_a_jpeg(monkeypatch):
    monkeypatch.setattr(contact_sheets, "_draw_image", lambda *arguments: None)  # which is slow
    one = contact_sheets.Pair(IMAGES[0], IMAGES[0], record.IMPOSTOR, "", "")
    drawn = contact_sheets.draw_pairs([one] * contact_sheets.MAX_PAIRS)
    assert drawn.height <= MAX_JPEG_SIDE and contact_sheets.to_jpeg(drawn)


def test_a_record_becomes_a_pair():
    fields = {record.IMAGE_A: b"a", record.IMAGE_B: b"b", record.LABEL: 0}
    fields |= {record.IDENTITY_A: "Ólafur".encode(), record.IDENTITY_B: b"\xff"}
    assert contact_sheets.pair_from_record(fields) == contact_sheets.Pair(
        b"a", b"b", 0, "Ólafur", "\ufffd"
    )


def test_chosen_pairs_are_balanced_seeded_and_of_all_splits():
    tables = {
        name: pd.DataFrame({"a": range(start, start + 50), "b": range(50), "label": [0, 1] * 25})
        for name, start in (("train", 0), ("test", 100))
    }
    chosen = contact_sheets.choose_pairs(tables, 20, seed=0)
    assert chosen["label"].tolist() == [1] * 10 + [0] * 10
    assert chosen["a"].is_unique and {a >= 100 for a in chosen["a"]} == {False, True}
    assert chosen.equals(contact_sheets.choose_pairs(tables, 20, seed=0)) and not chosen.equals(
        contact_sheets.choose_pairs(tables, 20, seed=1)
    )
    assert len(contact_sheets.choose_pairs(tables, 1000, seed=0)) == 100
