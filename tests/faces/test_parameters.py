"""Tests of fv.faces.parameters."""

import dataclasses

import numpy as np

from fv.faces import parameters

SEED = 3
PEOPLE = [parameters.draw_person(SEED, index) for index in range(300)]


def test_a_person_is_the_same_whenever_drawn():
    assert parameters.draw_person(SEED, 7) == parameters.draw_person(SEED, 7)


def test_two_people_and_two_seeds_differ():
    assert parameters.draw_person(SEED, 7) != parameters.draw_person(SEED, 8)
    assert parameters.draw_person(SEED, 7) != parameters.draw_person(SEED + 1, 7)


def test_an_image_has_an_appearance_of_its_own():
    first, second = (parameters.draw_appearance(SEED, 7, image) for image in (0, 1))
    assert first == parameters.draw_appearance(SEED, 7, 0)
    assert first != second


def test_people_and_images_draw_from_streams_of_their_own():
    person, image = parameters.PERSON_STREAM, parameters.IMAGE_STREAM
    first, second = (np.random.default_rng((0, stream, 0)).random() for stream in (person, image))
    assert first != second


def test_every_hairstyle_beard_and_eye_colour_occurs():
    assert {person.hair.style for person in PEOPLE} == set(parameters.STYLES)
    assert {person.hair.beard for person in PEOPLE} == {"", *parameters.BEARDS}
    assert {person.colours.iris for person in PEOPLE} == set(parameters.IRIS_COLOURS)


def test_mouth_lies_between_nose_and_chin():
    for person in PEOPLE:
        assert person.nose_base < person.mouth_height - person.mouth.upper
        assert person.mouth_height + person.mouth.lower < person.head.chin


def test_colours_are_in_range():
    for person in PEOPLE:
        for colour in dataclasses.astuple(person.colours):
            assert all(0.0 <= part <= 1.05 for part in colour)


def test_features_are_independent_of_each_other():
    features = [
        (p.head.width, p.eyes.spacing, p.brows.thickness, p.nose.width, p.mouth.width)
        for p in PEOPLE
    ]
    correlations = np.corrcoef(np.asarray(features).T) - np.eye(5)
    assert np.abs(correlations).max() < 0.2  # 3.4 standard errors of 300 independent draws
