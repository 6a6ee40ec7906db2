"""BaCon: every part by hand in numpy, empty and absent classes, devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import losses, parallel
from contrastive_jax.methods import bacon
from tests.losses.cases import Case
from tests.losses.cases_in_batch import pair_mask


def weighted(rng, n):
    logits = pair_mask(rng, n)["logits"]
    return {"logits": logits, "pair_weights": rng.uniform(0.1, 1, logits.shape)}


def gathered_weights(a, b, gather, rows):
    distance = jnp.abs(rows[:, None] - gather(rows)[None, :])
    return {"logits": a @ gather(b).T, "pair_weights": 1 / (1.0 + distance)}


def predictions(rng, n):
    return {"logits": rng.normal(size=(n, 3)), "class_counts": np.array([9.0, 3, 1])}


def gathered_predictions(a, b, gather, rows):
    return {"logits": gather(a), "class_counts": jnp.arange(1.0, a.shape[1] + 1)}


CASES = {
    "soft_contrastive": Case(
        bacon.soft_contrastive,
        {"logits": "n m", "pair_weights": "n m"},
        weighted,
        ("logits",),
        without_positives=lambda inputs: {
            **inputs,
            "pair_weights": 0 * inputs["pair_weights"],
        },
        gathered=gathered_weights,
        offset=("logits",),
    ),
    "distribution_regularizer": Case(
        bacon.distribution_regularizer,
        {"logits": "n k", "class_counts": "k"},
        predictions,
        ("logits",),
        where="n",
        reduces=False,
        gathered=gathered_predictions,
        offset=("logits",),
    ),
}
HELPERS = (
    "class_distribution",
    "confident_rows",
    "debiased_labels",
    "drawn_counts",
    "sampling_rates",
    "soft_label_weights",
    "teacher_temperature",
)

RNG = np.random.default_rng(0)
LOGITS = RNG.uniform(-1, 1, size=(8, 2, 3)).astype(np.float32)
COUNTS = np.array([60.0, 20.0, 5.0])


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def test_regularizer_by_hand():
    run = jax.jit(bacon.distribution_regularizer)
    rows = LOGITS.reshape(-1, 3)
    q = softmax(rows.astype(float) / 0.1).mean(axis=0) / COUNTS**1.1
    q /= q.sum()
    want = np.sum(q * np.log(q)) + np.log(3)
    np.testing.assert_allclose(run(rows, COUNTS), want, rtol=1e-4)
    # Rows that predict classes in proportion to their sizes.
    right = np.repeat(np.eye(3), (12, 4, 1), axis=0).astype(np.float32)
    np.testing.assert_allclose(run(right, COUNTS, power=1.0), 0, atol=2e-3)
    assert run(right, COUNTS, power=0.0) > 0.1


def test_debiased_labels_by_hand():
    want = softmax(LOGITS / 0.1 - 0.5 * np.log(COUNTS / COUNTS.sum())).mean(axis=1)
    run = jax.jit(bacon.debiased_labels)
    got = run(LOGITS, losses.logit_adjustment(COUNTS, kappa=0.5))
    np.testing.assert_allclose(got, want, rtol=1e-4)
    assert np.all(got[:, 2] > run(LOGITS, jnp.zeros(3))[:, 2]), "rare classes gain"


def test_rates_fall_with_the_size_of_a_class():
    rates = jax.jit(bacon.sampling_rates)
    known = jnp.array([True, False, False])
    np.testing.assert_allclose(rates(COUNTS, known), [1, 0.5, 1], rtol=1e-6)
    got = rates(COUNTS, known, alpha=1.0, beta=2.0)
    np.testing.assert_allclose(got, [1 / 12, 1 / 16, 1], rtol=1e-6)


def test_the_most_confident_rows_of_each_class_are_kept():
    top = np.array([0.9, 0.7, 0.8, 0.6, 0.95, 0.5, 0.85, 0.75])
    predicted = np.array([0, 0, 0, 1, 1, 1, 0, 1])
    soft = np.where(np.eye(3)[predicted] > 0, top[:, None], (1 - top[:, None]) / 2)
    where = np.array([True] * 4 + [False] + [True] * 3)  # row 4 has a label
    run = jax.jit(bacon.confident_rows)
    got = run(jnp.asarray(soft), jnp.array([2, 5, 1]), where=jnp.asarray(where))
    want = [True, False, False, True, False, True, True, True]
    assert got.tolist() == want
    assert not run(soft, jnp.zeros(3, int), where=where).any()
    assert not run(soft, jnp.full(3, 9), where=where & False).any()


def test_counts_are_binomial_and_keyed_by_row():
    """Of 4,000 rows of a class of rate 0.25: 1,000, standard deviation 27."""
    n = 4000
    soft = jnp.asarray(np.tile([[0.2, 0.8]], (n, 1)))
    keys = jax.random.split(jax.random.key(0), n)
    run = jax.jit(bacon.drawn_counts)
    rates, every = jnp.array([1.0, 0.25]), jnp.ones(n, bool)
    got = run(keys, soft, rates, where=every)
    assert got[0] == 0 and abs(int(got[1]) - 1000) < 110
    halves = [run(keys, soft, rates, where=jnp.arange(n) % 2 == i) for i in (0, 1)]
    np.testing.assert_array_equal(got, halves[0] + halves[1])


def test_soft_contrast_by_hand_and_with_hard_weights():
    logits, w = RNG.normal(size=(5, 5)), RNG.uniform(size=(5, 5))
    others = ~np.eye(5, dtype=bool)
    log_p = logits - np.log(np.sum(np.exp(logits) * others, axis=1, keepdims=True))
    want = -np.sum(w * log_p * others, axis=1) / np.sum(w * others, axis=1)
    run = jax.jit(functools.partial(bacon.soft_contrastive, reduce_fn=None))
    np.testing.assert_allclose(run(logits, w, where=others), want, rtol=1e-4)
    same = np.arange(5)[:, None] % 2 == np.arange(5)[None, :] % 2
    got = jnp.mean(run(logits, 1.0 * same, where=others))
    hard = jax.jit(losses.supervised_contrastive)
    want = hard(logits, same, where=others)
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_soft_label_weights():
    soft = np.array([[0.5, 0.5], [1.0, 0.0], [0.0, 1.0]], np.float32)
    want = [[1, 0.5, 0.5], [0.5, 1, 0], [0.5, 0, 1]]
    np.testing.assert_allclose(jax.jit(bacon.soft_label_weights)(soft), want)


def test_teacher_temperature_is_linear_then_constant():
    run = jax.jit(functools.partial(bacon.teacher_temperature, warmup_epochs=30))
    got = [run(epoch) for epoch in range(40)]
    want = np.concatenate([np.linspace(0.07, 0.04, 30), np.full(10, 0.04)])
    np.testing.assert_allclose(got, want, rtol=1e-5)
    one = functools.partial(bacon.teacher_temperature, warmup_epochs=1)
    np.testing.assert_allclose([one(0), one(1)], [0.07, 0.04], rtol=1e-6)


def test_class_sizes_follow_clusters_and_labelled_counts():
    """Known classes 0 and 1 in clusters 2 and 0; the others are new."""
    clusters = np.repeat([2, 0, 1, 3], [30, 10, 7, 20])
    labels = np.repeat([0, 1, 0, 0], [30, 10, 7, 20])
    labelled = np.zeros(67, bool)
    labelled[[0, 1, 2, 30, 31]] = True
    estimate = functools.partial(bacon.class_distribution, num_classes=4, num_known=2)
    assert estimate(clusters, labels, labelled).tolist() == [30, 10, 20, 7]
    # More labelled rows of class 1: it is taken for the larger one.
    labelled[32:36] = True
    assert estimate(clusters, labels, labelled).tolist() == [10, 30, 20, 7]
    # No labels at all, and an empty cluster.
    sizes = estimate(clusters % 3, labels, labelled & False)
    assert sizes.min() == 1 and sizes.sum() == 68
    with pytest.raises(ValueError, match=r"^clusters: expected numbers in \[0, 4\)"):
        estimate(clusters + 2, labels, labelled)
    with pytest.raises(ValueError, match=r"^labels: expected numbers in \[0, 2\)"):
        estimate(clusters, labels + 1, labelled)


@pytest.mark.parametrize("mapper", ["pmap", "shard_map"])
def test_four_devices_equal_one(mapper):
    """Draws are keyed by row, ranks and the mean prediction are of the whole batch."""

    def make_step(axis_name=None):
        def step(scale, batch):
            rng, rows = jax.random.key(0), len(batch["z"])
            keys = parallel.example_keys(rng, jnp.array(0), rows, axis_name)

            sizes = jnp.asarray(COUNTS)
            adjustment = losses.logit_adjustment(sizes, kappa=0.5)

            def loss_fn(scale):
                logits, z, new = parallel.all_gather(
                    (scale * batch["logits"], scale * batch["z"], batch["new"]),
                    axis_name,
                )
                every = parallel.all_gather(keys, axis_name)
                soft = bacon.debiased_labels(logits, adjustment)
                rates = bacon.sampling_rates(sizes, jnp.array([True, False, False]))
                rates = rates / 2
                counts = bacon.drawn_counts(every, soft, rates, where=new)
                kept = ~new | bacon.confident_rows(soft, counts, where=new)
                rows = parallel.global_rows(len(batch["z"]), axis_name)
                others = rows[:, None] != jnp.arange(8)[None, :]
                soft_loss = bacon.soft_contrastive(
                    z[rows] @ z.T,
                    bacon.soft_label_weights(soft)[rows],
                    where=others & kept[rows][:, None] & kept[None, :],
                    reduce_fn=parallel.mean(axis_name),
                )
                flat = logits.reshape(-1, 3)
                regularizer = bacon.distribution_regularizer(flat, sizes)
                aux = {"soft": soft_loss, "regularizer": regularizer}
                return soft_loss + regularizer, (aux, kept)

            run = parallel.value_and_grad(loss_fn, axis_name, has_aux=True)
            (loss, (aux, kept)), grad = run(scale)
            kept = jnp.sum(kept.astype(jnp.float32))
            return scale, {"loss": loss, **aux, "grad": grad, "kept": kept}

        return step

    batch = {"logits": LOGITS, "z": LOGITS[:, 0] + 0.2, "new": np.arange(8) > 2}
    start = jnp.asarray(0.9)
    _, want = jax.jit(make_step())(start, batch)
    _, got = parallel.data_parallel(make_step, mapper, devices=4)(start, batch)
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol=2e-4, err_msg=name)
    assert 3 < want["kept"] < 8


def test_wrong_arguments_are_named(without_type_hooks):
    logits, counts = jnp.asarray(LOGITS[:, 0]), jnp.asarray(COUNTS)
    with pytest.raises(
        ValueError, match=r"^class_counts: expected a finite number > 0"
    ):
        bacon.distribution_regularizer(logits, counts - 5)
    with pytest.raises(ValueError, match=r"^adjustment: expected shape"):
        bacon.debiased_labels(jnp.asarray(LOGITS), counts[:2])
    with pytest.raises(ValueError, match=r"^beta: expected"):
        bacon.sampling_rates(counts, counts > 9, beta=-1.0)
    with pytest.raises(TypeError, match=r"^known: expected booleans"):
        bacon.sampling_rates(counts, counts)
    with pytest.raises(ValueError, match=r"^warmup_epochs: expected"):
        bacon.teacher_temperature(3, warmup_epochs=0)
    with pytest.raises(ValueError, match=r"^pair_weights: expected shape"):
        bacon.soft_contrastive(logits, logits[:2])
