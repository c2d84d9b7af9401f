"""Faces are moved to the template by the published method, alike on the host and in a graph."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf
from skimage.transform import SimilarityTransform

from fv import alignment, image_ops
from fv.alignment import CENTRE, TEMPLATE, Alignment, Face
from fv.errors import UserError

TURN = np.array([[0.0, -1.0], [1.0, 0.0]])  # a quarter, from x to y


def random_points(seed):
    """Five points of a face anywhere in a photograph."""
    rng = np.random.default_rng(seed)
    angle, scale = rng.uniform(-math.pi, math.pi), rng.uniform(0.2, 9)
    turn = scale * np.array(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    return TEMPLATE @ turn.T + rng.uniform(-500, 500, 2) + rng.normal(0, 3 * scale, (5, 2))


def waves(height, width):
    """A picture with detail of all sizes, uint8 [height, width, 3]."""
    down, across = np.mgrid[:height, :width]
    rng = np.random.default_rng(0)
    picture = np.zeros((height, width, 3))
    for wavelength in (9, 17, 40, 120):
        for channel in range(3):
            x, y = rng.normal(0, 2 * math.pi / wavelength, 2)
            picture[..., channel] += np.sin(x * across + y * down)
    return np.clip(127.5 + 50 * picture, 0, 255).astype(np.uint8)


def test_a_turned_enlarged_moved_square_gives_its_transform_by_hand():
    square = np.array([[0, 0], [2, 0], [2, 2], [0, 2]])
    found = alignment.estimate_similarity(square, 3 * square @ TURN.T + (10, 20))
    np.testing.assert_allclose(found, [[0, -3, 10], [3, 0, 20]], atol=1e-12)


def test_the_least_squares_of_three_points_are_those_computed_by_hand():
    # Means (1, 0) and (1, 1/3); sum of squares 2; products 2 along, 0 across.
    found = alignment.estimate_similarity([[0, 0], [1, 0], [2, 0]], [[0, 0], [1, 1], [2, 0]])
    np.testing.assert_allclose(found, [[1, 0, 0], [0, 1, 1 / 3]], atol=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_the_transform_is_that_of_scikit_image_as_insightface_uses_it(seed):
    points = random_points(seed)
    reference = SimilarityTransform.from_estimate(points, TEMPLATE)
    np.testing.assert_allclose(
        Alignment().matrix(points, 112), reference.params[:2], rtol=0, atol=1e-6
    )


def test_points_on_the_template_stay_and_a_margin_makes_the_face_smaller():
    np.testing.assert_allclose(Alignment().matrix(TEMPLATE, 112), np.eye(2, 3), atol=1e-12)
    # 112 pixels and half as many on each side become 224 / 2 pixels.
    found = Alignment(margin=0.5).matrix(TEMPLATE, 112)
    np.testing.assert_allclose(found, [[0.5, 0, 28], [0, 0.5, 28]], atol=1e-12)


def test_an_image_is_not_changed_where_its_points_are_the_template():
    picture = waves(112, 112)
    np.testing.assert_array_equal(Alignment().align(picture, TEMPLATE, 112), picture)


def test_a_smaller_face_is_the_exact_average_of_its_pixels():
    picture = waves(112 * 3, 112 * 3)
    found = Alignment().align(picture, 3 * TEMPLATE + 1, 112)
    averages = picture.reshape(112, 3, 112, 3, 3).mean(axis=(1, 3))
    assert np.abs(found - averages).max() <= 1


def test_the_centre_of_an_image_without_a_face_is_its_square():
    picture = waves(112, 200)
    found = Alignment(margin=0.3).align(picture, CENTRE, 112)
    assert np.abs(found.astype(int) - picture[:, 44:156]).max() <= 1


def test_what_lies_outside_of_the_image_is_black():
    picture = np.full((112, 112, 3), 200, np.uint8)
    found = Alignment().align(picture, TEMPLATE - (50, 0), 112)
    assert (found[:, :49] == 0).all() and (found[:, 51:] == 200).all()
    assert not Alignment().align(picture, TEMPLATE - (5000, 0), 112).any()


@pytest.mark.parametrize("scale", [0.3, 0.9, 1.0, 1.7, 3.0, 5.2, 9.0])
def test_the_graph_and_the_host_agree_within_one_level(scale):
    picture = waves(600, 800)
    warp = tf.function(image_ops.warp, autograph=False)
    for angle in (0.0, 0.4, -2.5):
        turn = scale * np.array(
            [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
        )
        points = (TEMPLATE - 56) @ turn.T + (390, 250)
        matrix = Alignment(0.1).matrix(points, 96)
        graph = image_ops._similarity(tf.constant(points), Alignment(0.1).target(96))
        np.testing.assert_allclose(graph.numpy(), matrix, atol=1e-9)
        host = alignment.warp(picture, matrix, 96).astype(int)
        assert np.abs(warp(tf.constant(picture), graph, 96).numpy() - host).max() <= 1


def test_a_face_outside_of_the_image_is_black_in_the_graph_too():
    image = tf.fill((60, 50, 3), tf.constant(200, tf.uint8))
    for scale in (1.0, 9.0):
        matrix = Alignment().matrix(scale * TEMPLATE + 5000, 112)
        assert not image_ops.warp(image, tf.constant(matrix), 112).numpy().any()


@pytest.mark.parametrize("points", [np.ones((5, 2)), np.full((5, 2), np.nan)])
def test_points_without_a_direction_are_refused(points):
    with pytest.raises(UserError, match="no points of a face: give five different points"):
        alignment.estimate_similarity(points, TEMPLATE)


def test_the_largest_face_near_the_centre_is_chosen():
    def face(left, top, side):
        return Face(TEMPLATE, (left, top, side, side), 0.9)

    middle, larger, corner = face(80, 60, 40), face(60, 40, 80), face(0, 0, 90)
    chosen = alignment.choose_face([middle, larger, corner], 200, 160)
    assert chosen.box == larger.box and chosen.faces == 3
    # Half as large again, a face near the corner loses to one in the middle. Ten times it wins.
    assert alignment.choose_face([middle, face(0, 0, 49)], 200, 160).box == middle.box
    assert alignment.choose_face([middle, face(0, 0, 126)], 200, 160).box != middle.box
    assert alignment.choose_face([], 200, 160) is None


def test_a_less_certain_face_must_be_larger_to_be_chosen():
    def face(left, confidence):
        return Face(TEMPLATE, (left, 60, 40, 40), confidence)

    sure, doubtful = face(40, 0.99), face(120, 0.8)  # equally far from the centre of 200 × 160
    assert alignment.choose_face([doubtful, sure], 200, 160).box == sure.box
    larger = dataclasses.replace(doubtful, box=(110, 50, 60, 60))
    assert alignment.choose_face([larger, sure], 200, 160).box == larger.box


def test_eye_distance_and_roll_describe_a_face():
    face = Face(TEMPLATE @ (2 * TURN).T)
    assert face.eye_distance == pytest.approx(70.48, abs=0.01)
    assert face.roll == pytest.approx(89.7, abs=0.05)


def test_a_record_of_another_template_is_refused():
    assert Alignment.from_json({"margin": 0.1, "template": "arcface"}, "x") == Alignment(0.1)
    for fields in ({"template": "other"}, {"template": "arcface", "turn": 1}):
        with pytest.raises(UserError, match="an alignment that this fv does not know"):
            Alignment.from_json(fields, "manifest.json")
