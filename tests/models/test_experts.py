"""Mixtures of experts: loops over texts and tokens, room, and who gets a gradient."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import models

B, T, D, H, E = 4, 3, 5, 6, 3
RNG = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


X, GATE = normal(B, T, D), normal(D, E)
PARAMS = {
    "up": {"kernel": normal(E, D, H), "bias": normal(E, H)},
    "down": {"kernel": normal(E, H, D), "bias": normal(E, D)},
}


def expert(k):
    return jax.tree.map(lambda x: x[k], PARAMS)


# Of each expert, what it makes of every token.
@pytest.fixture(scope="module")
def outputs():
    rows = X.reshape(-1, D)
    run = jax.jit(jax.vmap(models.gelu_expert, in_axes=(0, None)))
    return np.asarray(run(PARAMS, rows)).reshape(E, B, T, D)


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def softmax(x):
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)


def test_enforced_by_a_loop(outputs):
    run = jax.jit(functools.partial(models.moe_enforced, expert_fn=models.gelu_expert))
    texts = jnp.array([2, 0, 2, 0])
    close(run(PARAMS, X, texts), [outputs[k, b] for b, k in enumerate(texts)])
    tokens = jnp.asarray(RNG.integers(E, size=(B, T)))
    want = [[outputs[tokens[b, t], b, t] for t in range(T)] for b in range(B)]
    close(run(PARAMS, X, tokens), want)


def test_room_of_experts():
    """Enough room changes nothing; what is beyond it is 0, the first texts stay."""
    texts = jnp.array([2, 0, 2, 0])

    @functools.partial(jax.jit, static_argnames="capacity")
    def run(params, capacity):
        def total(params):
            y = models.moe_enforced(
                params, X, texts, models.gelu_expert, capacity=capacity
            )
            return jnp.sum(y**2), y

        return jax.grad(total, has_aux=True)(params)

    grad, y = run(PARAMS, None)
    small_grad, small = run(PARAMS, 2)
    close(small, y)
    jax.tree.map(close, small_grad, grad)
    assert not np.any(grad["up"]["kernel"][1]), "an expert without a text"
    assert np.all(np.any(np.asarray(grad["up"]["bias"])[[0, 2]], axis=1))
    close(run(PARAMS, 1)[1], y * np.array([1, 1, 0, 0])[:, None, None])


def test_switch_by_a_loop(outputs):
    where = jnp.array([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 1]], bool)

    def run(gate, where=None):
        return models.moe_sentence_switch(
            PARAMS, X, gate, models.gelu_expert, where=where
        )

    for mask in (None, where):
        y, logits = jax.jit(run)(GATE, mask)
        masks = np.ones((B, T), bool) if mask is None else np.asarray(mask)
        means = np.stack(
            [np.asarray(X)[b][m].mean(axis=0) for b, m in enumerate(masks)]
        )
        close(logits, means @ GATE)
        close(y, [outputs[k, b] for b, k in enumerate(np.argmax(logits, axis=1))])
    # The task does not teach the router.
    grad = jax.jit(jax.grad(lambda gate: jnp.sum(run(gate)[0] ** 2)))(GATE)
    assert not np.any(grad)


@pytest.mark.parametrize("renormalize", [False, True])
@pytest.mark.parametrize("kind", ["sentence", "token"])
def test_top_k_by_a_loop(outputs, kind, renormalize):
    layer = getattr(models, f"moe_{kind}_top_k")
    run = jax.jit(
        lambda gate: layer(
            PARAMS, X, gate, models.gelu_expert, top_k=2, renormalize=renormalize
        )
    )
    y, logits = run(GATE)
    states = np.asarray(X)
    rows = states.mean(axis=1) if kind == "sentence" else states.reshape(-1, D)
    close(logits, rows @ GATE)
    shares = softmax(rows @ np.asarray(GATE)).reshape(B, -1, E)
    want = np.zeros((B, T, D))
    for b, t in np.ndindex(B, T):
        share = shares[b, t if kind == "token" else 0]
        chosen = np.argsort(-share)[:2]
        total = share[chosen].sum() if renormalize else 1.0
        want[b, t] = sum(share[k] / total * outputs[k, b, t] for k in chosen)
    close(y, want)
    grad = jax.jit(jax.grad(lambda gate: jnp.sum(run(gate)[0] ** 2)))(GATE)
    assert np.all(np.any(np.asarray(grad), axis=0)), "the task teaches this router"


def test_upcycled_experts_begin_as_the_dense_layer(outputs):
    params = models.upcycle_experts(expert(1), E)
    assert params["up"]["kernel"].shape == (E, D, H)

    @jax.jit
    def run(params):
        args = params, X, GATE, models.gelu_expert
        enforced = models.moe_enforced(params, X, jnp.arange(B) % E, args[3])
        routed, _ = models.moe_token_top_k(*args, top_k=2)
        return enforced, routed

    for y in run(params):
        close(y, outputs[1])


def test_gated_expert_by_hand():
    params = {"in": normal(D, 2 * H), "out": normal(H, D)}
    x = X[0]
    both = np.asarray(x) @ np.asarray(params["in"])
    active = np.asarray(jax.nn.gelu(both[:, :H]))
    close(
        models.glu_expert(params, x), active * both[:, H:] @ np.asarray(params["out"])
    )


def test_wrong_arguments_are_named(without_type_hooks):
    run = functools.partial(models.moe_enforced, expert_fn=models.gelu_expert)
    with pytest.raises(ValueError, match=r"^assignment: expected numbers in"):
        run(PARAMS, X, jnp.full(B, E))
    with pytest.raises(ValueError, match=r"^assignment: expected shape"):
        run(PARAMS, X, jnp.zeros(B + 1, int))
    with pytest.raises(ValueError, match=r"^capacity: expected None with one expert"):
        run(PARAMS, X, jnp.zeros((B, T), int), capacity=2)
    for k in (0, E + 1):
        with pytest.raises(ValueError, match=r"^top_k: expected 1 to 3 \(the exp"):
            models.moe_token_top_k(PARAMS, X, GATE, models.gelu_expert, top_k=k)
    with pytest.raises(ValueError, match=r"^gate: expected 3 columns"):
        models.moe_sentence_switch(PARAMS, X, GATE[:, :2], models.gelu_expert)
    with pytest.raises(ValueError, match=r"^num_experts: expected"):
        models.upcycle_experts(PARAMS, 0)
