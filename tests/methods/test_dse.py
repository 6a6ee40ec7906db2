"""DSE: heads and objective by hand, scores of all pairs, devices, wrong arguments."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import parallel
from contrastive_jax.methods import dse
from tests.losses.cases import Case


def taught(classes):
    def make(rng, n):
        return {
            "logits": rng.normal(size=(n, classes)),
            "labels": rng.integers(max(classes, 2), size=n)
            * (1.0 if classes == 1 else 1),
            "teacher": rng.normal(size=(n, classes)),
        }

    return make


AXES = {"logits": "n c", "labels": "n", "teacher": "n c"}
CASES = {
    f"distilled_objective{name}": Case(
        dse.distilled_objective,
        AXES,
        taught(classes),
        ("logits",),
        options={"task": task},
        where="n",
        corners=({"coeff": 0.0}, {"coeff": 1.0}),
        columns=("labels",) if task == "multiclass" else (),
    )
    for name, task, classes in (
        ("", "multiclass", 3),
        ("/binary", "binary", 1),
    )
}
HELPERS = ("binary_teacher_logit", "pair_features", "score_matrix", "siamese_head")

RNG = np.random.default_rng(0)
D, H = 3, 5
U, V = (RNG.normal(size=(n, D)).astype(np.float32) for n in (4, 7))


def layers(*sizes):
    return [
        {
            "kernel": jnp.asarray(RNG.normal(size=(a, b)), jnp.float32),
            "bias": jnp.asarray(RNG.normal(size=b), jnp.float32),
        }
        for a, b in itertools.pairwise(sizes)
    ]


HEADS = {"concat": layers(4 * D, H, 2), "dot": layers(1, 1)}


def by_hand(head, u, v, features):
    """Logits of one pair, in numpy."""
    x = np.concatenate([u, v, u * v, np.abs(u - v)])
    x = np.array([u @ v]) if features == "dot" else x
    for i, layer in enumerate(head):
        x = np.maximum(x, 0) if i else x
        x = x @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])
    return x


@pytest.mark.parametrize("features", ["concat", "dot"])
def test_the_head_and_all_pairs_by_hand(features, transform):
    head = HEADS[features]
    want = [[by_hand(head, u, v, features) for v in V] for u in U]
    for chunk in (3, 7, 100):
        run = functools.partial(dse.score_matrix, features=features, chunk=chunk)
        got = transform(run)(head, jnp.asarray(U), jnp.asarray(V))
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    run = transform(functools.partial(dse.siamese_head, features=features))
    got = run(head, jnp.asarray(U), jnp.asarray(V[:4]))
    np.testing.assert_allclose(got, np.diagonal(want, axis1=0, axis2=1).T, rtol=1e-4)


def test_the_order_of_the_texts_matters_to_the_concatenation_only():
    u, v = jnp.asarray(U), jnp.asarray(V[:4])
    for features, same in (("concat", False), ("dot", True)):
        run = functools.partial(dse.siamese_head, HEADS[features], features=features)
        assert np.allclose(run(u, v), run(v, u)) == same


def test_the_objective_by_hand():
    coeff = np.array([0.0, 0.3, 1.0, 0.5, 0.3])
    rng = np.random.default_rng(1)
    y, t, labels = rng.normal(size=(5, 3)), rng.normal(size=(5, 3)), [0, 2, 1, 1, 0]
    log_probs = y - np.log(np.exp(y).sum(1, keepdims=True))
    one, teacher = y[:, 0], t[:, 0]
    wanted = {"multiclass": -log_probs[range(5), labels]}
    yes = np.array([1.0, 0.0, 1.0, 1.0, 0.0])
    chance = 1 / (1 + np.exp(-one))
    wanted["binary"] = -yes * np.log(chance) - (1 - yes) * np.log(1 - chance)
    wanted["regression"] = (one - yes) ** 2
    for task, of_labels in wanted.items():
        many = task == "multiclass"
        far = ((y - t) ** 2).sum(1) if many else (one - teacher) ** 2
        want = np.mean((1 - coeff) * of_labels + coeff * far)
        run = jax.jit(functools.partial(dse.distilled_objective, task=task))
        logits, other = (x if many else x[:, :1] for x in (y, t))
        got = run(
            jnp.asarray(logits, jnp.float32),
            jnp.asarray(labels if many else yes.astype(np.float32)),
            jnp.asarray(other, jnp.float32),
            coeff=jnp.asarray(coeff, jnp.float32),
        )
        np.testing.assert_allclose(got, want, rtol=1e-5)


def test_pairs_without_a_label_have_the_teacher_alone():
    """coeff 1 on two of four: their labels change nothing, and all are one mean."""
    logits, teacher = jnp.asarray(U[:, :1]), jnp.asarray(V[:4, :1])
    coeff = jnp.array([0.25, 1.0, 0.25, 1.0])

    def run(labels):
        options = dict(task="binary", coeff=coeff, reduce_fn=None)
        return dse.distilled_objective(logits, labels, teacher, **options)

    got = run(jnp.array([1.0, 1.0, 0.0, 0.0]))
    np.testing.assert_array_equal(got, run(jnp.array([1.0, 0.0, 0.0, 1.0])))
    far = (U[:, 0] - V[:4, 0]) ** 2
    np.testing.assert_allclose(got[1::2], far[1::2], rtol=1e-6)
    alone = run(jnp.array([0.0, 0.0, 1.0, 1.0]))
    assert np.all(np.abs(alone - got)[::2] > 1e-3)


def test_the_teacher_has_no_gradient_and_two_logits_are_one():
    two = jnp.array([[1.0, 4.0], [2.0, -1.0]])
    np.testing.assert_array_equal(dse.binary_teacher_logit(two), [[3.0], [-3.0]])

    def loss(teacher):
        labels = jnp.array([0.0, 1.0])
        return dse.distilled_objective(two[:, :1], labels, teacher, task="binary")

    assert not np.any(jax.jit(jax.grad(loss))(two[:, 1:]))


@pytest.mark.parametrize("mapper", ["pmap", "shard_map"])
def test_means_are_over_the_pairs_of_all_devices(mapper):
    """Pairs that do not count stand unevenly on the devices, one has none."""
    rng = np.random.default_rng(2)
    batch = {
        "x": rng.normal(size=(16, 1)),
        "teacher": rng.normal(size=(16, 1)),
        "labels": rng.integers(2, size=16),
        "coeff": rng.random(16),
        "where": np.arange(16) % 5 > 1,
    }
    batch["where"][2:4] = False
    types = {"b": jnp.bool_, "f": jnp.float32, "i": jnp.float32}
    batch = {k: jnp.asarray(v, types[v.dtype.kind]) for k, v in batch.items()}

    def make_step(axis_name=None):
        def step(scale, batch):
            def loss_fn(scale):
                return dse.distilled_objective(
                    scale * batch["x"],
                    batch["labels"],
                    batch["teacher"],
                    task="binary",
                    coeff=batch["coeff"],
                    where=batch["where"],
                    reduce_fn=parallel.mean(axis_name),
                )

            loss, grad = parallel.value_and_grad(loss_fn, axis_name)(scale)
            return scale, {"loss": loss, "grad": grad}

        return step

    start = jnp.asarray(0.7)
    _, want = jax.jit(make_step())(start, batch)
    _, got = parallel.data_parallel(make_step, mapper, devices=8)(start, batch)
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol=2e-5, err_msg=name)
    assert abs(want["grad"]) > 1e-3


def test_wrong_arguments_are_named(without_type_hooks):
    u, v, logits = jnp.asarray(U), jnp.asarray(V), jnp.asarray(U[:, :2])
    head, yes = HEADS["concat"], jnp.ones(4, jnp.int32)
    with pytest.raises(ValueError, match=r"^v: expected shape \[4, 3\], that of u"):
        dse.siamese_head(head, u, v)
    with pytest.raises(ValueError, match=r"^features: expected"):
        dse.score_matrix(head, u, v, features="sum")
    with pytest.raises(ValueError, match=r"^chunk: expected 1 or more"):
        dse.score_matrix(head, u, v, chunk=0)
    with pytest.raises(ValueError, match=r"^layers: expected one or more"):
        dse.score_matrix([], u, v)
    run = functools.partial(dse.distilled_objective, logits, yes, logits)
    with pytest.raises(ValueError, match=r"^task: expected one of"):
        run(task="ranking")
    with pytest.raises(ValueError, match=r"^logits: expected one column for binary"):
        run(task="binary")
    with pytest.raises(ValueError, match=r"^coeff: expected a number in \[0, 1\]"):
        run(task="multiclass", coeff=1.5)
    with pytest.raises(ValueError, match=r"^labels: expected numbers in \[0, 2\)"):
        dse.distilled_objective(logits, 2 * yes, logits, task="multiclass")
    with pytest.raises(ValueError, match=r"^labels: expected a number in \[0, 1\]"):
        one = logits[:, :1]
        dse.distilled_objective(one, 2.0 * yes, one, task="binary")
    with pytest.raises(ValueError, match=r"^two_logits: expected shape"):
        dse.binary_teacher_logit(u)
