"""Tests of fv.faces.renderer, and through it of fv.faces.canvas."""

import dataclasses

import numpy as np
import pytest
import simplejpeg

from fv.faces import canvas, parameters, renderer

SEED, SIZE = 5, 64
WHO = parameters.draw_person(SEED, 3)
HOW = parameters.draw_appearance(SEED, 3, 0)


def _with_hair(**changes):
    return dataclasses.replace(WHO, hair=dataclasses.replace(WHO.hair, **changes))


def _difference(first, second):
    return np.abs(first.astype(int) - second)


@pytest.mark.parametrize("size", [32, 75, 112])
def test_image_has_the_size_that_was_asked(size):
    image = renderer.render(WHO, HOW, size)
    assert image.shape == (size, size, 3)
    assert image.dtype == np.uint8


def test_jpeg_decodes_to_about_the_picture():
    decoded = simplejpeg.decode_jpeg(renderer.render_jpeg(SEED, 3, 0, SIZE))
    difference = decoded.mean(axis=2) - renderer.render(WHO, HOW, SIZE).mean(axis=2)
    assert np.abs(difference).mean() < 10  # grey levels; JPEG takes noise away


@pytest.mark.parametrize("style", parameters.STYLES)
def test_every_hairstyle_is_drawn(style):
    ranges = parameters.STYLES[style]
    lengths = {key: max(getattr(ranges, key)) for key in ("top", "side", "end", "curl")}
    image = renderer.render(_with_hair(style=style, **lengths), HOW, SIZE)
    assert image.std() > 5
    if style != "bald":
        assert (image != renderer.render(_with_hair(style="bald", end=-3.0), HOW, SIZE)).any()


@pytest.mark.parametrize("beard", parameters.BEARDS)
def test_every_beard_is_drawn_below_the_nose(beard):
    bearded = renderer.render(_with_hair(beard=beard), HOW, SIZE)
    changed = _difference(bearded, renderer.render(_with_hair(beard=""), HOW, SIZE)).max(axis=2)
    assert (changed[SIZE // 2 :] > 10).sum() > 10
    assert changed[: SIZE // 4].max() == 0


@pytest.mark.parametrize(
    "change", [{"yaw": 27.0}, {"azimuth": 68.0}, {"mouth_open": 1.0}, {"glasses": True}]
)
def test_appearance_changes_the_picture(change):
    plain = dataclasses.replace(HOW, yaw=0.0, azimuth=-68.0, mouth_open=0.0, glasses=False)
    image = renderer.render(WHO, dataclasses.replace(plain, **change), SIZE)
    assert _difference(image, renderer.render(WHO, plain, SIZE)).max() > 30


def test_people_differ_more_than_images_of_one_person():
    people = [parameters.draw_person(SEED, index) for index in range(12)]
    drawn = [parameters.draw_appearance(SEED, 0, image) for image in range(6)]
    shown = [dataclasses.replace(how, backdrop=HOW.backdrop, blobs=HOW.blobs) for how in drawn]
    pictures = np.stack([[renderer.render(who, how, SIZE) for how in shown] for who in people])
    between_people = pictures.mean(axis=1).std(axis=0).mean()
    chance = (pictures - pictures.mean(axis=0)).std(axis=0).mean() / np.sqrt(len(shown))
    assert between_people > 1.5 * chance


def test_the_side_that_faces_the_light_is_brighter():
    flat = np.zeros((1, 2), np.float32)
    picture = canvas.Canvas(np.full((3, 1, 2), 0.5, np.float32))
    slopes = (np.asarray([[1.0, -1.0]], np.float32), flat)  # faces left, faces right
    picture.paint(np.ones((1, 2), np.float32), (0.5, 0.5, 0.5), slopes)
    lit = canvas.light(picture, dataclasses.replace(HOW, azimuth=45.0), shine=0.0)
    assert (lit[:, 0, 1] > lit[:, 0, 0]).all()


def test_coverage_is_half_on_the_edge_and_full_inside():
    distances = np.asarray([-1.0, 0.0, 1.0])
    assert canvas.coverage(distances, softness=0.1).tolist() == [1.0, 0.5, 0.0]
