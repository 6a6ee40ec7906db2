"""SepCLR: layered images, leakage of both sides, contrastive PCA."""

import jax
import numpy as np
import pytest

from experiments.sepclr import data, measure, model


def test_layers_have_both_factors_and_backgrounds_one():
    below = np.full((9, 6, 6, 1), 100, np.uint8), np.arange(9)
    above = np.full((3, 2, 2, 1), 50, np.uint8), np.array([4, 5, 6])
    made = data.layered(below, above, number=4, seed=0)
    assert len(made.image) == 8 and made.is_target.sum() == 4
    assert len(set(made.common)) == 8  # no picture is in both
    background, target = (made.image[made.is_target == x] for x in (False, True))
    assert (background == 50).all() and (target[:, 2:4, 2:4] == 75).all()
    assert (target[:, 0] == 50).all()
    assert (made.salient[~made.is_target] == 0).all()
    assert set(made.salient[made.is_target]) <= {4, 5, 6}


def test_digits_by_name():
    found = data.load("digits", "", 100, 0.2)
    assert len(found.train.image) == 160 and len(found.held_out.image) == 40
    assert found.test.image.shape[1:] == (8, 8, 1)
    with pytest.raises(ValueError, match=r"data.sets: expected names of cifar_mnist"):
        data.load("moons", "", 100, 0.0)


def known(rng, n, leak):
    """Rows whose sides are one-hot factors, the common one with some of the other."""
    is_target = np.arange(n) % 2 == 1
    common, salient = rng.integers(0, 3, n), rng.integers(0, 2, n)
    split = data.Split(np.zeros((n, 1)), is_target, common, salient * is_target)
    a, b = np.eye(3)[common], np.eye(2)[salient] * is_target[:, None]
    noise = 0.01 * rng.normal(size=(n, 5))
    c = np.concatenate([a + noise[:, :3], leak * b + noise[:, 3:]], axis=1)
    return measure.Sides(*(x.astype(np.float32) for x in (c, b + noise[:, 3:]))), split


@pytest.mark.parametrize("leak", [0.0, 1.0])
def test_leakage_is_where_it_was_put(leak):
    rng = np.random.default_rng(0)
    sides, splits = zip(*(known(rng, n, leak) for n in (600, 1000)), strict=True)
    found = measure.leakage(sides, splits)
    assert found["common_to_common"] == found["salient_to_salient"] == 100
    assert abs(found["salient_to_common"] - 100 / 3) < 6
    assert found["salient_to_set"] == 100
    assert (found["common_to_salient"] == 100) == bool(leak)
    keys = ("common_to_salient", "salient_to_common")
    wrong = sum(abs(found[k] - x) for k, x in zip(keys, (50, 100 / 3), strict=True))
    np.testing.assert_allclose(found["gap"], wrong)


def test_contrastive_pca_finds_what_targets_alone_have():
    """Pixels vary most along one axis in both sets, along another in targets only."""
    rng = np.random.default_rng(0)
    n = 2000
    is_target = np.arange(n) % 2 == 1
    image = np.zeros((n, 1, 3, 1))
    image[:, 0, 0, 0] = 128 + 40 * rng.normal(size=n)
    image[:, 0, 1, 0] = 128 + 30 * rng.normal(size=n) * is_target
    split = data.Split(image, is_target, np.zeros(n), np.zeros(n))
    common, salient = measure.contrastive_pca([split, split], 1)[0]
    for side, pixel in ((common, 0), (salient, 1)):
        correlation = np.corrcoef(side[is_target, 0], image[is_target, 0, pixel, 0])
        assert abs(correlation[0, 1]) > 0.95


def test_elbo_counts_the_salient_code_of_targets_only():
    """Against cross entropy and divergence of Gaussians, by hand."""
    rng = np.random.default_rng(0)
    logits, mean, log_variance = (
        rng.normal(size=size).astype(np.float32)
        for size in [(3, 2, 2, 1), (3, 4), (3, 4)]
    )
    image = rng.uniform(size=logits.shape).astype(np.float32)
    is_target = np.array([True, False, True])
    p = 1 / (1 + np.exp(-logits))
    pixels = -(image * np.log(p) + (1 - image) * np.log(1 - p)).sum(axis=(1, 2, 3))
    codes = 0.5 * (mean**2 + np.exp(log_variance) - log_variance - 1)
    codes[1, 2:] = 0
    found = jax.jit(model.negative_elbo)(logits, image, mean, log_variance, is_target)
    np.testing.assert_allclose(found, (pixels + codes.sum(axis=1)).mean(), rtol=1e-5)
