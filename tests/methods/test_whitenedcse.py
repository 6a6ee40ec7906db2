"""WhitenedCSE: its loss by hand, its whitening's traps, both over devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import evaluation, losses, parallel, similarity, states
from contrastive_jax.methods import whitenedcse
from tests.losses.cases import Case

RNG = np.random.default_rng(0)
LOGITS = jnp.asarray(3 * RNG.normal(size=(5, 2, 6)), jnp.float32)
VIEWS = jnp.asarray(RNG.normal(size=(3, 16, 8)), jnp.float32)
ORDERS = jnp.asarray([RNG.permutation(8) for _ in range(3)])


def views(rng, n):
    """n anchors against n + 2 candidates in two views."""
    return {
        "logits": 3 * rng.normal(size=(n, 2, n + 2)),
        "labels": rng.integers(0, n + 1, n),
    }


def gathered_views(a, b, gather, rows):
    scores = [similarity.dot(a, gather(x)) for x in (b, a + b)]
    return {"logits": jnp.stack(scores, axis=1), "labels": rows}


CASES = {
    "multi_view_info_nce": Case(
        whitenedcse.multi_view_info_nce,
        {"logits": "n v m", "labels": "n"},
        views,
        ("logits",),
        columns=("labels",),
        offset=("logits",),
        gathered=gathered_views,
    ),
}
HELPERS = ()


def test_views_are_summed_each_with_a_softmax_of_its_own(transform):
    x = np.asarray(LOGITS, float)
    want = [
        sum(np.log(np.exp(x[i, v]).sum()) - x[i, v, i] for v in range(2))
        for i in range(5)
    ]
    f = transform(whitenedcse.multi_view_info_nce)
    np.testing.assert_allclose(f(LOGITS), np.mean(want), rtol=1e-5)
    # One view is InfoNCE, that is SimCSE.
    one = transform(losses.info_nce)(LOGITS[:, 0])
    np.testing.assert_allclose(f(LOGITS[:, :1]), one, rtol=1e-6)


def test_an_anchor_without_its_positive_leaves_the_mean():
    f = jax.jit(whitenedcse.multi_view_info_nce)
    where = jnp.ones((5, 6), bool).at[1, 1].set(False)
    rest = jnp.asarray([0, 2, 3, 4])
    want = f(LOGITS[rest], rest)
    np.testing.assert_allclose(f(LOGITS, where=where), want, rtol=1e-6)


@jax.jit
def of_views(views, orders):
    """Whitening as the paper has it, then the loss at its temperature."""
    first, *others = states.shuffled_group_whiten(views, orders, num_groups=4, eps=1e-5)
    scores = [similarity.cosine(first, x) / 0.05 for x in others]
    return whitenedcse.multi_view_info_nce(jnp.stack(scores, axis=1))


@pytest.mark.parametrize("case", ["one row", "equal rows", "few rows", "no channel"])
def test_degenerate_batches_have_finite_gradients(case):
    x = {
        "one row": VIEWS[:, :1],
        "equal rows": jnp.ones_like(VIEWS),
        "few rows": VIEWS[:, :2],
        "no channel": VIEWS.at[:, :, 3].set(0.0),
    }[case]
    value, grad = jax.value_and_grad(of_views)(x, ORDERS)
    assert np.isfinite(value) and np.isfinite(grad).all()


def test_shuffling_makes_views_differ_and_whitening_spreads_them():
    """Numbers of the spec: one group knows no order, few large groups differ most."""
    rng = np.random.default_rng(0)
    scale = 10 ** np.linspace(0, -2, 64)  # standard deviations
    x = (rng.normal(size=(256, 64)) * scale) @ np.linalg.qr(rng.normal(size=(64, 64)))[
        0
    ]
    x = jnp.asarray(x, jnp.float32)
    orders = jnp.asarray([rng.permutation(64) for _ in range(2)])

    @jax.jit
    def measure(x, orders):
        found = []
        for groups in (1, 4, 32):
            two = jnp.stack([x, x])
            a, b = states.shuffled_group_whiten(two, orders, num_groups=groups)
            cosine = jnp.mean(jnp.diagonal(similarity.cosine(a, b)))
            found.append((cosine, losses.uniformity(similarity.l2_normalize(a))))
        return found

    (one, spread), (few, less), (many, least) = measure(x, orders)
    np.testing.assert_allclose(one, 1.0, atol=1e-3)
    np.testing.assert_allclose([few, many], [0.86, 0.98], atol=0.03)
    np.testing.assert_allclose([spread, less, least], [-3.92, -3.72, -3.53], atol=0.04)
    assert evaluation.uniformity(x) > least


@pytest.mark.parametrize("mapper", ["pmap", "shard_map"])
def test_the_loss_is_that_of_all_devices(mapper):
    """Statistics and candidates of all rows; gradients too."""

    def make_step(axis_name=None):
        def step(scale, batch):
            def loss_fn(scale):
                x = jnp.swapaxes(batch["x"], 0, 1) * scale[None, None]
                n = x.shape[1]
                every = jnp.swapaxes(
                    parallel.all_gather(jnp.swapaxes(x, 0, 1), axis_name), 0, 1
                )
                z = states.shuffled_group_whiten(every, ORDERS, num_groups=4)
                rows = parallel.global_rows(n, axis_name)
                scores = [similarity.cosine(z[0][rows], v) for v in z[1:]]
                return whitenedcse.multi_view_info_nce(
                    jnp.stack(scores, axis=1),
                    rows,
                    reduce_fn=parallel.mean(axis_name),
                )

            loss, grad = parallel.value_and_grad(loss_fn, axis_name)(scale)
            return scale, {"loss": loss, "grad": grad}

        return step

    batch, start = {"x": jnp.swapaxes(VIEWS, 0, 1)}, jnp.linspace(0.5, 2.0, 8)
    _, want = jax.jit(make_step())(start, batch)
    _, got = parallel.data_parallel(make_step, mapper, devices=8)(start, batch)
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-4, atol=1e-6)
    assert np.abs(want["grad"]).max() > 1e-3


def test_wrong_arguments_are_named(without_type_hooks):
    with pytest.raises(ValueError, match=r"^logits: expected shape"):
        whitenedcse.multi_view_info_nce(LOGITS[:, 0])
    with pytest.raises(ValueError, match=r"^where: expected shape"):
        whitenedcse.multi_view_info_nce(LOGITS, where=jnp.ones((5, 2), bool))
    with pytest.raises(TypeError, match=r"^logits: "):
        whitenedcse.multi_view_info_nce(LOGITS.astype(int))
