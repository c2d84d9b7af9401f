"""Tests of fv.faces.identity and fv.faces.appearance."""

import dataclasses

import numpy as np
import pytest

from fv.faces import appearance, hairstyles, identity, palette

SEED = 3
PEOPLE = [identity.draw_identity(SEED, index) for index in range(300)]


def test_a_person_is_the_same_whenever_drawn():
    assert identity.draw_identity(SEED, 7) == identity.draw_identity(SEED, 7)


def test_two_people_and_two_seeds_differ():
    assert identity.draw_identity(SEED, 7) != identity.draw_identity(SEED, 8)
    assert identity.draw_identity(SEED, 7) != identity.draw_identity(SEED + 1, 7)


def test_an_image_has_circumstances_of_its_own():
    first, second = (appearance.draw_appearance(SEED, 7, image) for image in (0, 1))
    assert first == appearance.draw_appearance(SEED, 7, 0)
    assert first != second


def test_person_0_image_0_does_not_share_draws_with_person_0():
    who, how = identity.draw_identity(0, 0), appearance.draw_appearance(0, 0, 0)
    share_of_width = (who.head.width - 0.50) / (0.66 - 0.50)
    share_of_shift = (how.pose.shift_x + 0.12) / 0.24
    assert share_of_width != pytest.approx(share_of_shift)


def test_every_hairstyle_and_hair_colour_occurs():
    assert {person.hair.style for person in PEOPLE} == set(hairstyles.STYLES)
    assert len({person.colours.iris for person in PEOPLE}) == len(palette.IRISES)


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
