import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from fv.errors import UserError
from fv.model import heads, regions, siamese
from fv.model.regions import Region, TakeRegion
from tests.conftest import TINY
from tests.model.test_heads import unit

TWO = dataclasses.replace(TINY, regions="0:0:1:1:24,0.25:0.5:0.75:0.75:16", embedding_size=16)
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


def test_a_region_is_cut_and_its_longer_side_gets_the_pixels():
    taken = TakeRegion(Region(0.25, 0.5, 0.75, 0.75, 16))(tf.constant(IMAGES, tf.float32))
    np.testing.assert_array_equal(taken, IMAGES[:, 16:24, 8:24])


def test_a_smaller_region_has_the_means_of_the_pixels():
    taken = TakeRegion(Region(0, 0, 1, 1, 16))(tf.constant(IMAGES, tf.float32))
    blocks = IMAGES.reshape(3, 16, 2, 16, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(taken, blocks, atol=1e-3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0:0:1:1", "is not left:top:right:bottom:side"),
        ("0:0:1:x:48", "is not left:top:right:bottom:side"),
        ("0.5:0:0.4:1:48", "needs edges from 0 to 1"),
        ("0:0:1.5:1:48", "needs edges from 0 to 1"),
        ("0:0:1:1:4", "a side from 8"),
        ("0:0:nan:1:48", "needs edges from 0 to 1"),
    ],
)
def test_what_is_no_region_is_refused(text, message):
    with pytest.raises(UserError, match=message):
        regions.parse_regions(f"0:0:1:1:48,{text}")


def test_a_part_of_the_embedding_sees_its_region_alone():
    encoder = siamese.build_encoder(TWO)
    other = IMAGES.copy()
    other[:, :16] = 255 - other[:, :16]  # above the second region
    parts, others = (
        tf.split(encoder(images, training=False), 2, axis=1) for images in (IMAGES, other)
    )
    assert np.abs(parts[0] - others[0]).max() > 1e-3
    np.testing.assert_allclose(parts[1], others[1], atol=1e-6)
    for part in parts:  # each has the same weight
        np.testing.assert_allclose(np.linalg.norm(part, axis=1), 0.5**0.5, atol=1e-5)


def test_the_loss_is_the_mean_of_the_regions_losses():
    head = heads.build_head(dataclasses.replace(TWO, head="n_pairs", embedding_size=8), 3)
    embeddings = unit((5, 2, 8))
    label, identities = tf.constant([1] * 5), tf.constant([[n, n] for n in range(5)])
    seed = tf.constant([0, 0])
    alone = heads.build_head(dataclasses.replace(TINY, head="n_pairs", embedding_size=4), 3)
    wanted = [
        alone.pair_losses(
            tf.math.l2_normalize(embeddings[..., part], axis=-1), label, identities, seed
        )
        for part in (slice(4), slice(4, 8))
    ]
    found = head.pair_losses(tf.constant(embeddings), label, identities, seed)
    np.testing.assert_allclose(found, np.mean(wanted, axis=0), rtol=1e-5)


def test_the_last_layer_of_regions_changes_by_whitening_alone():
    model = siamese.build_siamese(TWO, identities=3)
    names = [variable.name for variable in model.trainable_variables]
    assert "embedding/kernel:0" not in names and "embedding1/kernel:0" in names
    before = model.encoder(IMAGES, training=False).numpy()
    matrix = np.random.default_rng(1).normal(size=(16, 16))
    siamese.apply_whitening(model.encoder, matrix)
    whitened = before @ matrix
    whitened /= np.linalg.norm(whitened, axis=1, keepdims=True)
    np.testing.assert_allclose(model.encoder(IMAGES, training=False), whitened, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(embedding_size=15), "embedding_size=15 does not divide by 2 regions"),
        (dict(regions="0.1:0:0.101:1:16"), "'0.1:0.0:0.101:1.0:16' holds no pixel of --image_size"),
        (dict(head="sigmoid"), "give another --head than sigmoid"),
    ],
)
def test_options_that_exclude_regions_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        siamese.build_siamese(dataclasses.replace(TWO, **changes), identities=3)


def test_a_mirrored_model_embeds_an_image_as_its_mirror_image():
    plain = siamese.build_encoder(TINY)
    mirrored = siamese.build_encoder(dataclasses.replace(TINY, mirror=True))
    mirrored.set_weights(plain.get_weights())
    found = mirrored(IMAGES, training=False)
    both = plain(IMAGES, training=False) + plain(IMAGES[:, :, ::-1], training=False)
    np.testing.assert_allclose(found, tf.math.l2_normalize(both, axis=1), atol=1e-5)
    np.testing.assert_allclose(mirrored(IMAGES[:, :, ::-1], training=False), found, atol=1e-5)
    assert mirrored(IMAGES, training=True).shape == (3, 16)
