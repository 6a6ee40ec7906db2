"""MoE-Sim: targets by loops, the traps of long vectors and columns, field tokens."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import losses, similarity
from contrastive_jax.methods import moe
from tests.losses.cases import Case


def embeddings(rng, n):
    return {name: rng.normal(size=(n, 3)) for name in ("z_a", "z_b")}


def gathered(a, b, gather, rows):
    return {"z_a": gather(a), "z_b": gather(b)}


CASES = {
    "argmax_target_contrastive": Case(
        moe.argmax_target_contrastive,
        {"z_a": "n d", "z_b": "n d"},
        embeddings,
        ("z_a", "z_b"),
        where="n n",
        corners=({"target_scale": 1e3}, {"normalize": True}),
        gathered=gathered,
    ),
    "soft_target_contrastive": Case(
        moe.soft_target_contrastive,
        {"z_a": "n d", "z_b": "n d"},
        embeddings,
        ("z_a", "z_b"),
        where="n n",
        corners=({"target_scale": 1e3}, {"normalize": False}),
        gathered=gathered,
    ),
}
HELPERS = (
    "pooled_head",
    "replace_first_with_field_token",
    "summed_mutual_information",
)
RNG = np.random.default_rng(0)
A, B = (jnp.asarray(RNG.normal(size=(5, 3)), jnp.float32) for _ in range(2))
A, B = A.at[2].set(0.4 * A[0]), B.at[2].set(0.4 * B[0])  # a pair longer than another


def softmax(x):
    x = np.exp(x - x.max(axis=1, keepdims=True))
    return x / x.sum(axis=1, keepdims=True)


def target(a, b, scale):
    """M, whose rows sum to 1."""
    return softmax(scale * (a @ a.T + b @ b.T) / 2)


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_argmax_targets_by_a_loop(scale, transform):
    a, b = np.asarray(A, float), np.asarray(B, float)
    m, scores = target(a, b, scale), a @ b.T / 0.7
    down, across = np.log(softmax(scores)), np.log(softmax(scores.T))
    terms = [
        -(down[i, np.argmax(m[i])] + across[i, np.argmax(m[:, i])]) / 2
        for i in range(5)
    ]
    options = dict(temperature=0.7, target_scale=scale)
    f = transform(functools.partial(moe.argmax_target_contrastive, **options))
    np.testing.assert_allclose(f(A, B), np.mean(terms), rtol=1e-5)
    # Not the diagonal for vectors of any length.
    assert np.any(m.argmax(axis=1) != np.arange(5))


def test_targets_of_columns_come_from_the_softmax_of_rows():
    """Column 1 has its largest score in row 0, and its largest share in row 1."""
    a = jnp.array([[3.0, 0.0], [1.5, 0.2]])
    m = target(np.asarray(a), np.asarray(a), 1.0)
    scores = np.asarray(a @ a.T)
    assert scores[:, 1].argmax() == 0 and m[:, 1].argmax() == 1
    down = np.log(softmax(scores))  # of columns too: the scores are symmetric
    want = -(down[0, 0] + down[1, 0] + down[0, m[:, 0].argmax()] + down[1, 1]) / 4
    got = moe.argmax_target_contrastive(a, a)
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_with_vectors_of_length_one_it_is_two_way_info_nce(transform):
    a, b = similarity.l2_normalize(A), similarity.l2_normalize(B)
    options = dict(normalize=True, temperature=0.1)
    got = transform(functools.partial(moe.argmax_target_contrastive, **options))(A, B)
    want = losses.two_way_info_nce(similarity.dot(a, b) / 0.1)
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_of_two_equal_pairs_the_first_is_the_target():
    z = np.eye(3, dtype=np.float32)[[0, 1, 1]]
    run = functools.partial(moe.argmax_target_contrastive, reduce_fn=None)
    np.testing.assert_allclose(
        jax.jit(run)(z, 2 * z)[2], -np.log(softmax(2 * z @ z.T))[2, 1], rtol=1e-5
    )


def test_targets_have_no_gradient():
    """A change of the scores within the sides alone changes nothing."""

    def loss(scale):
        return moe.argmax_target_contrastive(A, B, target_scale=scale)

    assert jax.jit(jax.grad(loss))(1.3) == 0


def test_soft_targets_by_a_loop(transform):
    a, b = (np.asarray(similarity.l2_normalize(x), float) for x in (A, B))
    m, scores = target(a, b, 20.0), a @ b.T / 0.1
    down, across, total = softmax(scores), softmax(scores.T), 0.0
    for i, j in np.ndindex(5, 5):
        total += m[i, j] * np.log(m[i, j] / down[i, j]) / 10
        total += m[j, i] * np.log(m[j, i] / across[i, j]) / 10
    options = dict(temperature=0.1, target_scale=20.0)
    got = transform(functools.partial(moe.soft_target_contrastive, **options))(A, B)
    np.testing.assert_allclose(got, total, rtol=1e-4)

    def by_scale(scale):
        return moe.soft_target_contrastive(A, B, target_scale=scale)

    assert abs(jax.jit(jax.grad(by_scale))(1.3)) > 1e-4, (
        "the targets do have a gradient"
    )


def test_one_pair_costs_nothing():
    for loss in (moe.argmax_target_contrastive, moe.soft_target_contrastive):
        value, grad = jax.jit(jax.value_and_grad(loss))(A[:1], B[:1])
        assert value == 0 and not np.any(grad)


def test_a_mask_leaves_the_pairs_of_each_field():
    """Blocks of a batch are batches of their own."""
    blocks = np.arange(5) // 3
    where = jnp.asarray(blocks[:, None] == blocks[None, :])
    for loss in (moe.argmax_target_contrastive, moe.soft_target_contrastive):
        run = jax.jit(functools.partial(loss, reduce_fn=None))
        got = run(A, B, where=where)
        parts = [run(A[s], B[s]) for s in (slice(3), slice(3, 5))]
        np.testing.assert_allclose(got, jnp.concatenate(parts), rtol=1e-5, atol=1e-6)


def test_batches_add_up_to_the_information_of_all():
    """As released: rows count once for each row of their task, without a gradient."""
    logits = jnp.asarray(RNG.normal(size=(4, 3)), jnp.float32)
    tasks = jnp.array([0, 0, 2, 0])
    p = np.asarray(jax.nn.softmax(logits, axis=1))
    want = np.stack([3 * p[[0, 1, 3]].sum(axis=0), np.zeros(3), p[2]])
    run = jax.jit(moe.summed_mutual_information)
    _, once = run(jnp.zeros((3, 3)), logits, tasks)
    np.testing.assert_allclose(once, want, rtol=1e-5)
    _, twice = run(once, logits, tasks)
    np.testing.assert_allclose(twice, 2 * want, rtol=1e-5)
    # With a row of each task it is the loss of the batch.
    each = jnp.arange(3)
    got, _ = run(jnp.zeros((3, 3)), logits[:3], each)
    own = functools.partial(losses.router_mutual_information, num_tasks=3)
    mine = jax.jit(own)(logits[:3], each)
    np.testing.assert_allclose(got, mine, rtol=1e-5)

    def loss(logits):
        return moe.summed_mutual_information(jnp.zeros((3, 3)), logits, tasks)[0]

    assert not np.any(jax.jit(jax.grad(loss))(logits))


def test_only_the_first_token_is_replaced():
    tokens = jnp.arange(12).reshape(3, 4)
    fields, names = jnp.array([1, 0, 1]), jnp.array([50, 60])
    got = moe.replace_first_with_field_token(tokens, fields, names)
    assert got[:, 0].tolist() == [60, 50, 60]
    np.testing.assert_array_equal(got[:, 1:], tokens[:, 1:])


def test_wrong_arguments_are_named(without_type_hooks):
    with pytest.raises(ValueError, match=r"^temperature: expected"):
        moe.argmax_target_contrastive(A, B, temperature=0.0)
    with pytest.raises(ValueError, match=r"^target_scale: expected"):
        moe.soft_target_contrastive(A, B, target_scale=-1.0)
    with pytest.raises(ValueError, match=r"^z_b: expected shape"):
        moe.argmax_target_contrastive(A, B[:2])
    with pytest.raises(ValueError, match=r"^fields: expected numbers in"):
        moe.replace_first_with_field_token(
            jnp.ones((1, 2), int), jnp.array([2]), jnp.array([5, 6])
        )
    with pytest.raises(ValueError, match=r"^tasks: expected numbers in"):
        moe.summed_mutual_information(jnp.zeros((2, 3)), A, jnp.full(5, 2))
