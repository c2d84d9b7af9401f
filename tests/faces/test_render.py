"""Tests of fv.faces.render: what one image looks like."""

import dataclasses

import numpy as np
import pytest

from fv.faces import camera, hairstyles
from fv.faces.appearance import draw_appearance
from fv.faces.identity import draw_identity
from fv.faces.render import render, render_jpeg

SEED = 5
SIZE = 64


@pytest.mark.parametrize("size", [32, 75, 112])
def test_image_has_the_size_that_was_asked(size):
    image = render(draw_identity(SEED, 1), draw_appearance(SEED, 1, 0), size)
    assert image.shape == (size, size, 3)
    assert image.dtype == np.uint8


def test_jpeg_decodes_to_about_the_picture():
    how = draw_appearance(SEED, 2, 0)
    picture = render(draw_identity(SEED, 2), how, SIZE)
    decoded = camera.decode(render_jpeg(SEED, 2, 0, SIZE))
    assert (
        np.abs(camera.grey(decoded) - camera.grey(picture)).mean() < 10
    )  # grey levels; JPEG takes noise away


@pytest.mark.parametrize("style", hairstyles.STYLES)
def test_every_hairstyle_draws_without_holes(style):
    who = draw_identity(SEED, 3)
    lengths = {key: max(getattr(hairstyles.STYLES[style], key)) for key in hairstyles.LENGTHS}
    bald = dataclasses.replace(who, hair=dataclasses.replace(who.hair, style="bald", end=-3.0))
    styled = dataclasses.replace(who, hair=dataclasses.replace(who.hair, style=style, **lengths))
    how = draw_appearance(SEED, 3, 0)
    image = render(styled, how, SIZE)
    assert image.std() > 5
    if style != "bald":
        assert (image != render(bald, how, SIZE)).any()


@pytest.mark.parametrize(
    "part, change",
    [("pose", dict(yaw=25.0)), ("light", dict(azimuth=60.0)), ("expression", dict(open=1.0))],
)
def test_circumstances_change_the_picture(part, change):
    who, how = draw_identity(SEED, 4), draw_appearance(SEED, 4, 0)
    changed = dataclasses.replace(how, **{part: dataclasses.replace(getattr(how, part), **change)})
    difference = render(who, changed, SIZE).astype(int) - render(who, how, SIZE)
    assert np.abs(difference).max() > 30


def test_glasses_and_hat_are_drawn_where_they_are_worn():
    who, how = draw_identity(SEED, 6), draw_appearance(SEED, 6, 0)
    plain = dataclasses.replace(
        how, extras=dataclasses.replace(how.extras, glasses=False, hat=False)
    )
    for name in ("glasses", "hat"):
        worn = dataclasses.replace(plain, extras=dataclasses.replace(plain.extras, **{name: True}))
        assert (render(who, worn, SIZE) != render(who, plain, SIZE)).mean() > 0.02


def test_people_differ_more_than_images_of_one_person_under_equal_circumstances():
    circumstances = [draw_appearance(SEED, 0, image) for image in range(6)]
    same_light = [
        dataclasses.replace(how, backdrop=circumstances[0].backdrop) for how in circumstances
    ]
    pictures = np.stack(
        [[render(draw_identity(SEED, who), how, SIZE) for how in same_light] for who in range(12)]
    ).astype(float)
    between_people = pictures.mean(axis=1).std(axis=0).mean()
    chance = (pictures - pictures.mean(axis=0)).std(axis=0).mean() / np.sqrt(len(same_light))
    assert between_people > 1.5 * chance
