"""Mixtures of experts: routing, dense layers as experts, upcycling.

    params = upcycle_experts(mlp_params, 5)                     # copies of one MLP
    y = moe_enforced(params, x, fields, gelu_expert)            # no router
    y, router_logits = moe_token_top_k(params, x, gate, gelu_expert, top_k=2)

An expert is any pure function `expert_fn(params, x [m, d]) -> [m, d]` of rows; `params`
hold the leaves of all experts, stacked on a first axis. Every expert sees all rows and
its output is weighted, by 0 where it has not been chosen: exact, static, for few
experts. With `capacity` an enforced expert sees only as many texts as it may hold. With
`axis_name` the experts are spread over devices (`parallel.spread_experts`): each holds
its share of `params` and the results are those of one device.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from contrastive_jax import numerics, pairs, parallel

ExpertFn = Callable[[Any, Array], Array]


def upcycle_experts(params: Any, num_experts: int) -> Any:
    """Copies of the parameters of a dense layer, stacked on a new first axis.

    With any weights of sum 1 the mixture starts as the dense layer.

    References:
      Komatsuzaki et al. 2023, arXiv:2212.05055 (sparse upcycling); Hallee et al. 2024,
      arXiv:2401.15713 (one per field).

    Examples:
      >>> upcycle_experts({"bias": jnp.array([1.0, 2.0])}, 2)["bias"].tolist()
      [[1.0, 2.0], [1.0, 2.0]]
    """
    numerics.check_positive(num_experts=num_experts)

    def tile(leaf):
        return jnp.repeat(jnp.asarray(leaf)[None], num_experts, axis=0)

    return jax.tree.map(tile, params)


def gelu_expert(
    params: Any, x: Float[Array, "m d"], *, approximate: bool = False
) -> Float[Array, "m d"]:
    """The MLP of BERT: down(gelu(up(x))).

    Args:
      params: {"up": {"kernel", "bias"}, "down": {"kernel", "bias"}}, kernels [in, out].
      x: rows.
      approximate: whether gelu is its tanh form.
    """
    up, down = params["up"], params["down"]
    x = x @ up["kernel"] + up["bias"][None]
    x = jax.nn.gelu(x) if approximate else numerics.gelu(x)
    return x @ down["kernel"] + down["bias"][None]


def glu_expert(
    params: Any,
    x: Float[Array, "m d"],
    *,
    activation: Callable[[Array], Array] = jax.nn.gelu,
) -> Float[Array, "m d"]:
    """A gated MLP: out(act(x W_1) * (x W_2)), [W_1 | W_2] one matrix.

    Args:
      params: {"in": [d, 2 h], "out": [h, d]}; no biases.
      x: rows.
      activation: of the first half; the second half gates it.

    References:
      Shazeer 2020, arXiv:2002.05202 (GLU variants).
    """
    active, gates = jnp.split(x @ params["in"], 2, axis=-1)
    return (activation(active) * gates) @ params["out"]


def moe_enforced(
    params: Any,
    x: Float[Array, "b t d"],
    assignment: Integer[Array, "b"] | Integer[Array, "b t"],
    expert_fn: ExpertFn,
    *,
    capacity: int | None = None,
    axis_name: str | None = None,
) -> Float[Array, "b t d"]:
    """Each text, or each token, by the expert it is given to.

        y_b = expert_{assignment_b}(x_b)

    No router and no gradient to one; an expert without a text has gradient 0.

    Args:
      params: of the experts, stacked.
      x: states of tokens.
      assignment: number of the expert of each text or token.
      expert_fn: one expert.
      capacity: texts an expert has room for, so that it computes those alone; those
        beyond get 0. Enough for a batch with as many texts of each: b / experts. None
        computes all texts by all experts. Not with tokens, nor over devices.
      axis_name: device axis over which the experts are spread.

    Raises:
      ValueError: no such expert; capacity where there is none.

    References:
      Hallee et al. 2024, arXiv:2401.15713, section 3 (enforced routing).
    """
    by_text = assignment.ndim == 1
    shape = "b" if by_text else "b t"
    numerics.check_shapes(x=(x, "b t d"), assignment=(assignment, shape))
    experts = count(params, axis_name)
    assignment = numerics.check_columns(assignment, experts, "assignment")
    if capacity is None:
        chosen = assignment[:, None] if by_text else assignment
        chosen = jnp.broadcast_to(chosen, x.shape[:2]).reshape(-1)
        weights = pairs.one_column(chosen, experts).astype(x.dtype)
        return mix(params, x, weights, expert_fn, axis_name)
    if not by_text or axis_name is not None:
        raise ValueError(
            "capacity: expected None with one expert per token or with axis_name, got "
            f"{capacity}"
        )
    numerics.check_positive(capacity=capacity)
    b, t, d = x.shape
    # Place of each text among those of its expert; beyond the room it is written to,
    # and read from, no place at all.
    own = pairs.one_column(assignment, experts)
    place = jnp.sum(jnp.where(own, jnp.cumsum(own, axis=0) - 1, 0), axis=1)
    place = jnp.where(place < capacity, assignment * capacity + place, b + experts * b)
    slots = jnp.zeros((experts * capacity, t, d), x.dtype).at[place].set(x, mode="drop")
    y = jax.vmap(expert_fn)(params, slots.reshape(experts, capacity * t, d))
    return y.reshape(-1, t, d).at[place].get(mode="fill", fill_value=0)


def moe_sentence_switch(
    params: Any,
    x: Float[Array, "b t d"],
    gate: Float[Array, "d e"],
    expert_fn: ExpertFn,
    *,
    where: Bool[Array, "b t"] | None = None,
    axis_name: str | None = None,
) -> tuple[Float[Array, "b t d"], Float[Array, "b e"]]:
    """Each text by the expert that a router chooses from its mean state.

        r_b = mean_t(x_bt) gate,  y_b = expert_{argmax r_b}(x_b)

    The output is not multiplied by the router's probability, so that the task does not
    teach the router: a loss of `losses.routing` has to.

    Args:
      params: of the experts, stacked.
      x: states of tokens.
      gate: the router.
      expert_fn: one expert.
      where: real tokens, of which the mean is; all when None, as in the released code.
      axis_name: device axis over which the experts are spread.

    Returns:
      the output, and the router's scores.

    References:
      Hallee et al. 2024, arXiv:2401.15713 (preprint), `SentenceSwitchMoeBlock`.
    """
    logits = sentence_scores(params, x, gate, where, axis_name)
    y = moe_enforced(
        params, x, jnp.argmax(logits, axis=1), expert_fn, axis_name=axis_name
    )
    return y, logits


def moe_sentence_top_k(
    params: Any,
    x: Float[Array, "b t d"],
    gate: Float[Array, "d e"],
    expert_fn: ExpertFn,
    *,
    top_k: int,
    renormalize: bool = False,
    where: Bool[Array, "b t"] | None = None,
    axis_name: str | None = None,
) -> tuple[Float[Array, "b t d"], Float[Array, "b e"]]:
    """Each text by the k experts of a router's largest probabilities.

        r_b = mean_t(x_bt) gate
        y_b = sum over the k largest of softmax(r_b)_k expert_k(x_b)

    Args:
      params: of the experts, stacked.
      x: states of tokens.
      gate: the router.
      expert_fn: one expert.
      top_k: how many, 1 to e.
      renormalize: whether the k weights are made to sum to 1.
      where: real tokens, of which the mean is; all when None.
      axis_name: device axis over which the experts are spread.

    Returns:
      the output, and the router's scores.

    References:
      Hallee et al. 2024, arXiv:2401.15713 (preprint), `SentenceTopKMoeBlock`.
    """
    logits = sentence_scores(params, x, gate, where, axis_name)
    weights = top_weights(logits, top_k, renormalize)
    weights = jnp.repeat(weights, x.shape[1], axis=0)
    return mix(params, x, weights, expert_fn, axis_name), logits


def moe_token_top_k(
    params: Any,
    x: Float[Array, "b t d"],
    gate: Float[Array, "d e"],
    expert_fn: ExpertFn,
    *,
    top_k: int,
    renormalize: bool = True,
    axis_name: str | None = None,
) -> tuple[Float[Array, "b t d"], Float[Array, "bt e"]]:
    """Each token by the k experts of a router's largest probabilities.

    Args:
      params: of the experts, stacked.
      x: states of tokens.
      gate: the router.
      expert_fn: one expert.
      top_k: how many, 1 to e.
      renormalize: whether the k weights are made to sum to 1.
      axis_name: device axis over which the experts are spread.

    Returns:
      the output, and the router's scores of all tokens, texts one after the other.

    References:
      Jiang et al. 2024, arXiv:2401.04088, section 2.1; Hallee et al. 2024,
      arXiv:2401.15713 (preprint), `TokenTopKMoeBlock`.
    """
    check_router(params, x, gate, axis_name)
    logits = router_scores(x.reshape(-1, x.shape[-1]), gate)
    weights = top_weights(logits, top_k, renormalize)
    return mix(params, x, weights, expert_fn, axis_name), logits


def mix(params, x, weights, expert_fn, axis_name):
    """Outputs of the experts for every token by their weights [b t, e], added up."""
    rows = x.reshape(-1, x.shape[-1])
    y = parallel.spread_experts(expert_fn, params, rows, weights, axis_name)
    return y.reshape(x.shape)


def count(params: Any, axis_name: str | None) -> int:
    """Number of experts of all devices."""
    return jax.tree.leaves(params)[0].shape[0] * parallel.axis_size(axis_name)


def check_router(params, x, gate, axis_name):
    """Raises ValueError for a router of another number of experts."""
    numerics.check_shapes(x=(x, "b t d"), gate=(gate, "d e"))
    experts = count(params, axis_name)
    if gate.shape[1] != experts:
        raise ValueError(
            f"gate: expected {experts} columns (the experts), got shape "
            f"{list(gate.shape)}"
        )


def router_scores(x, gate):
    """Scores of the experts, in float32 at least."""
    return numerics.at_least_f32(x) @ numerics.at_least_f32(gate, "gate")


def sentence_scores(params, x, gate, where, axis_name):
    """Scores of the experts for the mean state of each text."""
    check_router(params, x, gate, axis_name)
    numerics.check_shapes(x=(x, "b t d"), where=(where, "b t"))
    mask = numerics.mask_or_all(where, x.shape[:2])[..., None]
    means = numerics.masked_mean(numerics.at_least_f32(x), mask, axis=1)
    return router_scores(means, gate)


def top_weights(logits, top_k, renormalize):
    """The k largest probabilities of each row, 0 elsewhere."""
    experts = logits.shape[1]
    if not 1 <= top_k <= experts:
        raise ValueError(f"top_k: expected 1 to {experts} (the experts), got {top_k}")
    shares = jax.nn.softmax(logits, axis=1)
    largest, chosen = jax.lax.top_k(shares, top_k)
    if renormalize:
        largest = largest / jnp.sum(largest, axis=1, keepdims=True)
    rows = jnp.arange(len(shares))[:, None]
    return jnp.zeros_like(shares).at[rows, chosen].set(largest)
