"""Errors of keypoints, by loops and by hand."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from contrastive_jax import evaluation, transforms

RNG = np.random.default_rng(0)
X, Y = (jnp.asarray(RNG.normal(size=(4, 5, 3)), jnp.float32) for _ in range(2))
WHERE = jnp.asarray(RNG.random((4, 5)) < 0.7).at[:, 2].set(False)
SCALES = jnp.array([0.5, 1.0, 2.0, 4.0])
close = functools.partial(chex.assert_trees_all_close, rtol=1e-5, atol=1e-6)


def test_mpjpe_by_a_loop(transform):
    gaps = [
        np.linalg.norm(X[i, j] - Y[i, j])
        for i in range(4)
        for j in range(5)
        if WHERE[i, j]
    ]
    run = transform(lambda x, y: evaluation.mpjpe(x, y, where=WHERE))
    close(run(X, Y), np.mean(gaps))


def test_aligned_errors_do_not_see_what_they_align():
    turn = jnp.asarray(Rotation.from_rotvec([0.5, 1.0, -2.0]).as_matrix(), jnp.float32)
    moved, turned = X + 3, 2 * X @ turn + 1
    assert evaluation.mpjpe(moved, X) > 1
    close(evaluation.mpjpe(moved, X, align="root", root=3), 0)
    assert evaluation.mpjpe(turned, X, align="root") > 0.5
    close(evaluation.mpjpe(turned, X, align="procrustes"), 0)
    aligned = jax.vmap(transforms.procrustes_align)(Y, X)
    want = evaluation.mpjpe(aligned, X)
    close(evaluation.mpjpe(Y, X, align="procrustes"), want)
    assert want < evaluation.mpjpe(Y, X, align="root")


def test_pck_by_a_loop(transform):
    shares = []
    for j in range(5):
        shares.append(
            [
                np.linalg.norm(X[i, j] - Y[i, j]) / SCALES[i] < 1.5
                for i in range(4)
                if WHERE[i, j]
            ]
        )
    options = dict(threshold=1.5, scales=SCALES, where=WHERE)
    run = transform(lambda x, y: evaluation.pck(x, y, **options))
    close(run(X, Y), np.mean(np.concatenate(shares)))
    each = [np.mean(share) if share else 0.0 for share in shares]
    close(evaluation.pck(X, Y, **options, average=None), np.array(each))
    assert not shares[2]
    got = evaluation.pck(X, Y, **options, average="joints")
    close(got, np.mean(each[:2] + each[3:]))


def test_pck_auc_of_fine_thresholds_is_the_mean_of_what_is_left():
    gaps = np.linalg.norm(X - Y, axis=-1)[np.asarray(WHERE)]
    got = evaluation.pck_auc(X, Y, thresholds=np.linspace(0, 2, 4001), where=WHERE)
    close(got, np.mean(np.clip(2 - gaps, 0, None)) / 2, rtol=1e-3)
    perfect = evaluation.pck_auc(X, X, thresholds=[1e-3, 1.0])
    close(perfect, 1)


def test_nothing_that_counts_is_zero():
    nothing = jnp.zeros((4, 5), bool)
    assert evaluation.mpjpe(X, Y, where=nothing) == 0
    assert evaluation.pck(X, Y, threshold=1.0, where=nothing) == 0


def test_argmax_keypoints_by_a_loop(transform):
    maps = RNG.normal(size=(2, 3, 4, 6)).astype(np.float32)
    maps[1, 2] = -1.0
    place, value = transform(evaluation.argmax_keypoints)(maps)
    for i in range(2):
        for k in range(3):
            y, x = np.unravel_index(maps[i, k].argmax(), (4, 6))
            want = (0, 0) if (i, k) == (1, 2) else (x, y)
            close(place[i, k], np.array(want))
            close(value[i, k], maps[i, k].max())


def test_wrong_input_is_named(without_type_hooks):
    for options, name in (
        (dict(align="hips"), "align"),
        (dict(align="root", root=5), "root"),
        (dict(where=jnp.ones((4, 4), bool)), "where"),
    ):
        with pytest.raises(ValueError, match=f"^{name}: "):
            evaluation.mpjpe(X, Y, **options)
    with pytest.raises(ValueError, match=r"^thresholds: "):
        evaluation.pck_auc(X, Y, thresholds=[1.0])
    with pytest.raises(ValueError, match=r"^average: "):
        evaluation.pck(X, Y, threshold=1.0, average="all")
    with pytest.raises(TypeError, match=r"^targets: "):
        evaluation.mpjpe(X, Y.astype(int))


@pytest.mark.parametrize("align", [None, "root", "procrustes"])
def test_what_does_not_count_may_be_nan(align):
    broken = jnp.where(WHERE[..., None], Y, jnp.nan)
    run = jax.jit(
        lambda x, y, where: evaluation.mpjpe(x, y, where=where, align=align, root=1)
    )
    got = run(X, broken, WHERE)
    if align is None:
        close(got, evaluation.mpjpe(X, Y, where=WHERE))
    # Without the keypoints: those of one example, of which only the others exist.
    one = WHERE[0] if WHERE[0, 1] else WHERE[0].at[1].set(True)
    broken = jnp.where(one[:, None], Y[0], jnp.nan)
    got = run(X[:1], broken[None], one[None])
    root = int(np.sum(one[:1]))
    want = evaluation.mpjpe(X[:1, one], Y[:1, one], align=align, root=root)
    close(got, want)
    assert np.isfinite(run(X, jnp.where(WHERE[..., None], Y, jnp.nan), WHERE))
    assert np.isnan(run(X, Y.at[0, 0, 0].set(jnp.nan), WHERE.at[0, 0].set(True)))


def test_nan_that_counts_is_not_hidden():
    broken = Y.at[1, 0, 2].set(jnp.nan)
    every = jnp.ones((4, 5), bool)
    for where, hidden in ((every, False), (every.at[1, 0].set(False), True)):
        got = evaluation.pck(X, broken, threshold=1.0, where=where)
        assert np.isfinite(got) == hidden
        got = evaluation.pck_auc(X, broken, thresholds=[0.5, 1.0], where=where)
        assert np.isfinite(got) == hidden
    place, value = evaluation.argmax_keypoints(jnp.full((1, 1, 2, 2), jnp.nan))
    assert np.all(np.isnan(place)) and np.all(np.isnan(value))


def test_thresholds_can_be_traced():
    thresholds = jnp.array([0.5, 1.0, 2.0])
    run = jax.jit(lambda t: evaluation.pck_auc(X, Y, thresholds=t))
    close(run(thresholds), evaluation.pck_auc(X, Y, thresholds=thresholds))
    with pytest.raises(ValueError, match=r"^thresholds: "):
        evaluation.pck_auc(X, Y, thresholds=[0.5, np.nan])
