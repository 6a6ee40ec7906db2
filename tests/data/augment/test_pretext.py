"""Pretext tasks: turned and shuffled images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax.data.augment import pretext


def test_turns_are_clockwise_and_four_of_them_nothing():
    x = np.random.default_rng(0).normal(size=(3, 5, 2))
    turned = np.asarray(pretext.rotate90(jnp.asarray(x), 1))
    for i in range(5):
        for j in range(3):
            np.testing.assert_array_equal(turned[i, j], np.float32(x[2 - j, i]))
    np.testing.assert_array_equal(pretext.rotate90(jnp.asarray(x), 4), np.float32(x))


@pytest.mark.parametrize("size", [3, 8, 27, 28, 96])
def test_boxes_are_disjoint_and_cover_what_three_divides(size):
    boxes = pretext.jigsaw_boxes(size)
    covered = np.zeros((size, size), int)
    for x, y, x2, y2 in boxes:
        covered[y:y2, x:x2] += 1
    assert covered.max() == 1
    assert (covered == 1).all() == (size % 3 == 0)
    # Row by row: the second box lies to the right of the first.
    assert boxes[1, 0] >= boxes[0, 2] and boxes[3, 1] >= boxes[0, 3]


def test_tiles_in_an_order():
    image = jnp.arange(36.0).reshape(6, 6, 1)
    order = jnp.array([8, 0, 1, 2, 3, 4, 5, 6, 7])
    tiles = jax.jit(pretext.jigsaw_tiles)(image, order)
    assert tiles.shape == (9, 2, 2, 1)
    np.testing.assert_array_equal(tiles[0, ..., 0], [[28, 29], [34, 35]])
    np.testing.assert_array_equal(tiles[2, ..., 0], [[2, 3], [8, 9]])
    constant = pretext.jigsaw_tiles(jnp.full((8, 8, 1), 0.5), order, size=8)
    np.testing.assert_allclose(constant, np.full((9, 8, 8, 1), 0.5), rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((8, 8, 1), r"^size: a side of 8 gives tiles of different sizes"),
        ((2, 2, 1), r"^size: expected at least 3, got 2"),
    ],
)
def test_wrong_images(shape, message):
    with pytest.raises(ValueError, match=message):
        pretext.jigsaw_tiles(jnp.zeros(shape), jnp.arange(9))


def test_permutations_differ_much():
    orders = pretext.jigsaw_permutations(20)
    assert orders.shape == (20, 9)
    assert (np.sort(orders, axis=1) == np.arange(9)).all()
    distances = (orders[:, None] != orders).sum(axis=-1)
    pairs = distances[np.triu_indices(20, 1)]
    # Of random permutations one place in nine is the same; equal ones would be 0.
    assert pairs.min() > 0 and pairs.mean() > 8.1
    assert (pretext.jigsaw_permutations(20) == orders).all()
    with pytest.raises(ValueError, match=r"^count: expected 2 to 1000, got 1"):
        pretext.jigsaw_permutations(1)
