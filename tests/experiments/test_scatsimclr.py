"""ScatSimCLR: what the pretext tasks are given, the adapter, the switches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import training
from contrastive_jax.data.augment import pretext
from experiments.scatsimclr import config as configs
from experiments.scatsimclr import data, experiment, model

IMAGES = np.random.default_rng(0).integers(0, 256, (8, 9, 9, 1), np.uint8)
UNIT = IMAGES.astype(np.float32) / 255


def plain(_, image):
    """A view that changes nothing."""
    return image


def flipped(_, image):
    """A view that is the mirror image."""
    return image[:, ::-1]


def drawn(augment=plain, **changes):
    """Views and puzzle of a step."""
    loss = configs.get_config("smoke").loss
    loss.update(every=2, **changes)
    inputs = data.make_inputs(loss, augment)

    @jax.jit
    def run(image):
        return inputs(image, jax.random.key(0), jnp.array(3), None)

    return run(IMAGES)


@pytest.mark.parametrize("turn_first", [False, True])
def test_one_in_two_images_is_turned_four_times(turn_first):
    x, puzzle = drawn(flipped, pretext="rotation", turn_first=turn_first)
    np.testing.assert_allclose(x, np.concatenate([UNIT, UNIT])[:, :, ::-1])
    assert puzzle.pieces.shape == (16, 1, 9, 9, 1) and len(puzzle.rng) == 16
    assert np.bincount(puzzle.label).tolist() == [4] * 4
    for i, (piece, label) in enumerate(zip(puzzle.pieces, puzzle.label, strict=True)):
        # A mirror image turned to the right is one turned to the left, and mirrored.
        turns = int(label) if turn_first else -int(label)
        want = np.rot90(UNIT[2 * (i % 4)][:, ::-1], turns)
        np.testing.assert_allclose(piece[0], want)


def test_one_in_two_images_is_cut_and_shuffled():
    _, puzzle = drawn(pretext="jigsaw", permutations=20)
    assert puzzle.pieces.shape == (4, 9, 9, 9, 1)
    assert len(set(puzzle.label.tolist())) > 1
    orders = pretext.jigsaw_permutations(20)
    cut = jax.jit(lambda image, order: pretext.jigsaw_tiles(image, order, size=9))
    for i, (pieces, label) in enumerate(zip(puzzle.pieces, puzzle.label, strict=True)):
        want = cut(UNIT[2 * i], orders[label])
        np.testing.assert_allclose(pieces, want, rtol=1e-5, atol=1e-6)


def test_no_task_and_wrong_sizes():
    assert drawn(pretext="")[1] is None
    loss = configs.get_config("smoke").loss
    inputs = data.make_inputs(loss, plain)
    for image, message in (
        (IMAGES[:, :6], "^image: expected a square, got 6 x 9"),
        (IMAGES[:6], "^loss.every: 6 images of a device do not split by 4"),
    ):
        with pytest.raises(ValueError, match=message):
            inputs(image, jax.random.key(0), jnp.array(0), None)


@pytest.mark.parametrize("grid", [1, 2, 3, 4])
def test_pooling_is_that_of_overlapping_cells(grid):
    x = np.random.default_rng(0).normal(size=(2, 3, 7, 5)).astype(np.float32)
    got = model.pool(jnp.asarray(x), grid)
    for i in range(grid):
        for k in range(grid):
            (top, bottom), (left, right) = (
                (int(np.floor(j * n / grid)), int(np.ceil((j + 1) * n / grid)))
                for j, n in ((i, 3), (k, 7))
            )
            want = x[:, top:bottom, left:right].mean(axis=(1, 2))
            np.testing.assert_allclose(got[:, i, k], want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["scatsimclr_jigsaw", "scatsimclr_alone", "simclr_rotation"]
)
def test_methods_that_the_smoke_run_leaves_are_built(name):
    config = training.config.changed(configs.get_config("smoke"), configs.METHODS[name])
    state = jax.eval_shape(lambda: experiment.init(config))
    batch = {"image": jax.ShapeDtypeStruct((8, 8, 8, 1), jnp.uint8)}
    after, metrics = jax.eval_shape(experiment.make_step(config), state, batch)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    task = bool(config.loss.pretext)
    assert ("pretext" in metrics) == ("pretext" in state.params) == task


def test_parameters_of_the_paper():
    """ScatSimCLR-30 with its projection: the 14.1 M of the paper are of 8 angles."""
    config = configs.get_config("paper")
    config.loss.pretext = ""
    config.model.scattering.angles = 8
    state = jax.eval_shape(lambda: experiment.init(config))
    total = sum(x.size for x in jax.tree.leaves(state.params))
    assert total == pytest.approx(14.1e6, rel=0.005)


@pytest.mark.experiments
def test_the_pretext_term_begins_at_its_step():
    config = configs.get_config("smoke")
    config.loss.start_step = 5
    config.loss.weight = 0.5
    step = jax.jit(experiment.make_step(config))
    state = experiment.init(config)
    batch = next(experiment.batches(config, 0))
    for at, weight in ((4, 0.0), (5, 0.5)):
        now = state.replace(step=jnp.array(at, jnp.int32))
        metrics = jax.device_get(step(now, batch)[1])
        want = metrics["nt_xent"] + weight * metrics["pretext"]
        np.testing.assert_allclose(metrics["loss"], want, rtol=1e-6)
