"""Gradients of big batches with the encoder memory of a small chunk, exactly.

A contrastive loss needs all embeddings at once, but not all activations. So the batch
is encoded chunk by chunk without keeping anything; the loss and its gradient in the
embeddings are computed on the whole batch; then every chunk is encoded once more, now
with activations, and its share of the parameter gradient is added up. One more forward
pass buys memory that no longer grows with the batch. Together with the tiled or ring
losses, neither the encoder nor the loss grows.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from contrastive_jax.parallel import collectives, objective, tiles

# encode(params, inputs) or encode(params, inputs, key) -> embeddings, row by row.
Encode = Callable[..., Any]


def cached_value_and_grad(
    encode_fns: dict[str, Encode] | Encode,
    loss_fn: Callable[..., Any],
    axis_name: collectives.AxisName,
    *,
    chunk: int,
    has_aux: bool = False,
) -> Callable[..., Any]:
    """`parallel.value_and_grad` of a loss on embeddings, encoded in chunks.

    The gradient equals that of the whole batch:

        d loss / d params = sum over chunks c of
                            (d embeddings_c / d params)^T d loss / d embeddings_c
                            + the loss's own use of params

    Args:
      encode_fns: `encode(params, inputs) -> embeddings`, one function or several by
        name (towers). All get the same params; two names may share a function. Every
        leaf of inputs and of embeddings has one row per example, and a row of the
        embeddings depends on the same row of the inputs only (`check_encoders`).
      loss_fn: `loss_fn(params, embeddings)`, which returns what `value_and_grad`
        takes: a loss or (loss, aux), where embeddings has the structure of
        `encode_fns`. On devices it may gather, or be a loss of `parallel` with its axis
        name.
      axis_name: device axis, or None.
      chunk: examples encoded at a time, a divisor of the rows that this function sees:
        one device's with an axis name, else the whole batch's. Small is good: 16 to 64
        on a CPU, as many as keep an accelerator busy.
      has_aux: whether `loss_fn` returns aux besides the loss.

    Returns:
      `run(params, inputs, rng=None)` with inputs in the structure of `encode_fns`, that
      returns (loss or (loss, aux), gradients), equal on every device. With `rng` the
      encoders are called with a third argument, a key of their own per tower, device
      and chunk, the same in both passes. For dropout that depends neither on chunk nor
      on devices, hand in `parallel.example_keys` as part of the inputs instead.
      Gradients reach params only, not the inputs.

    Raises:
      ValueError: (when called) a chunk that does not divide the batch, an encoder that
        returns something without one row per example, such as mutable statistics.

    References:
      Gao et al. 2021, arXiv:2101.06983.

    Examples:
      >>> import jax.numpy as jnp
      >>> from contrastive_jax import parallel
      >>> def loss(w, x):
      ...     return parallel.nt_xent(x)
      >>> run = parallel.cached_value_and_grad(lambda w, x: x @ w, loss, None, chunk=2)
      >>> value, grad = run(jnp.eye(3), jnp.ones((8, 3)))
      >>> grad.shape
      (3, 3)
    """
    if chunk < 1:
        raise ValueError(f"chunk: expected at least 1, got {chunk}")

    def run(params, inputs, rng=None):
        fns, batches = by_name(encode_fns), by_name(inputs, encode_fns)
        batches = {name: split(name, x, chunk) for name, x in batches.items()}
        if rng is not None:
            batches = {
                name: (x, chunk_keys(rng, i, x, axis_name))
                for i, (name, x) in enumerate(batches.items())
            }
        encoders = {}
        for name, x in batches.items():
            encoders[name] = functools.partial(call, fns[name], rng is not None)
            check_rows(name, encoders[name], params, x, chunk)

        def loss(params):
            embeddings = {
                name: encode_chunks(encoders[name], *tiles.vary_alike(params, x))
                for name, x in batches.items()
            }
            alone = not isinstance(encode_fns, dict)
            return loss_fn(params, embeddings["encode"] if alone else embeddings)

        return objective.value_and_grad(loss, axis_name, has_aux=has_aux)(params)

    return run


def by_name(tree: Any, like: Any = None) -> dict[str, Any]:
    """A dict by tower; what belongs to a single function goes under "encode".

    Raises:
      ValueError: inputs whose names are not those of the encoders.
    """
    like = tree if like is None else like
    if not isinstance(like, dict):
        return {"encode": tree}
    if not isinstance(tree, dict) or tree.keys() != like.keys():
        came = sorted(tree) if isinstance(tree, dict) else type(tree).__name__
        raise ValueError(f"inputs: expected a dict of {sorted(like)}, got {came}")
    return tree


def call(encode: Encode, with_key: bool, params: Any, inputs: Any) -> Any:
    """The encoder on a chunk, which carries its key when there is one."""
    if not with_key:
        return encode(params, inputs)
    rows, key = inputs
    return encode(params, rows, key[0])


def split(name: str, inputs: Any, chunk: int) -> Any:
    """[n, ...] to [chunk, chunks, ...] in every leaf.

    Chunk k holds the rows k, k + chunks, k + 2 chunks, and so on: under `jit`, where
    the rows lie on many devices one block after another, each chunk spans all of them.
    """
    for path, x in jax.tree_util.tree_leaves_with_path(inputs):
        if jnp.ndim(x) == 0 or x.shape[0] == 0 or x.shape[0] % chunk:
            raise ValueError(
                f"inputs[{name!r}]{jax.tree_util.keystr(path)}: shape "
                f"{list(jnp.shape(x))} does not split into chunks of {chunk} examples"
            )
    return jax.tree.map(lambda x: x.reshape(chunk, -1, *x.shape[1:]), inputs)


def pick(inputs: Any, k: Any) -> Any:
    """Chunk k of what `split` returned."""
    return jax.tree.map(
        lambda x: jax.lax.dynamic_index_in_dim(x, k, axis=1, keepdims=False), inputs
    )


def count_chunks(inputs: Any) -> int:
    """How many chunks `split` made."""
    return jax.tree.leaves(inputs)[0].shape[1]


def chunk_keys(
    rng: Key[Array, ""], tower: int, inputs: Any, axis_name: collectives.AxisName
) -> Key[Array, "1 chunks"]:
    """One key per chunk, different for every tower and device."""
    rng = jax.random.fold_in(rng, tower)
    if axis_name is not None:
        rng = jax.random.fold_in(rng, jax.lax.axis_index(axis_name))
    return jax.random.split(rng, (1, count_chunks(inputs)))


def check_rows(name: str, encode: Encode, params: Any, inputs: Any, chunk: int) -> None:
    """Every leaf of the embeddings must have one row per example.

    Raises:
      ValueError: naming the encoder and the leaf.
    """
    out = jax.eval_shape(lambda p, x: encode(p, pick(x, 0)), params, inputs)
    for path, x in jax.tree_util.tree_leaves_with_path(out):
        state = isinstance(out, tuple) and any(isinstance(o, dict) for o in out)
        if state or x.ndim == 0 or x.shape[0] != chunk:
            raise ValueError(
                f"encode_fns[{name!r}]: expected one row per example ({chunk}) in "
                f"every output, got shape {list(x.shape)} at output"
                f"{jax.tree_util.keystr(path)}. Mutable state such as batch statistics "
                f"cannot be cached: use frozen statistics, group or layer norm, and "
                f"return embeddings only"
            )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def encode_chunks(encode: Encode, params: Any, inputs: Any) -> Any:
    """Embeddings [n, ...] of inputs [chunk, chunks, ...]; keeps no activations."""
    chunks = jnp.arange(count_chunks(inputs))
    out = jax.lax.map(lambda k: encode(params, pick(inputs, k)), chunks)
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:]), out)


def encode_forward(encode, params, inputs):
    return encode_chunks(encode, params, inputs), (params, inputs)


def encode_backward(encode, kept, slopes):
    """Encodes every chunk again, adds up its share of the parameter gradient."""
    params, inputs = kept
    chunks = count_chunks(inputs)
    slopes = jax.tree.map(lambda g: g.reshape(-1, chunks, *g.shape[1:]), slopes)

    def one(total, k):
        x = pick(inputs, k)
        _, pull = jax.vjp(lambda p: encode(p, x), params)
        (grads,) = pull(pick(slopes, k))
        return jax.tree.map(lambda t, g: t + g.astype(t.dtype), total, grads), None

    zero = jax.tree.map(lambda p: tiles.zeros(p, *p.shape), params)
    total, _ = jax.lax.scan(one, zero, jnp.arange(chunks))
    return jax.tree.map(lambda t, p: t.astype(p.dtype), total, params), None


encode_chunks.defvjp(encode_forward, encode_backward)


def check_encoders(
    encode_fns: dict[str, Encode] | Encode, params: Any, inputs: Any, *, rows: int = 4
) -> None:
    """Checks on a few examples that every embedding depends on its own example only.

    Compares the embeddings of the first `rows` examples with those of the first half
    of them alone. Run it once on concrete arrays before training; it cannot run inside
    of `jit`. Hand in encoders without a key argument (dropout off, or keys as inputs).

    Args:
      encode_fns: as in `cached_value_and_grad`.
      params: their parameters.
      inputs: a batch, in the structure of `encode_fns`, of at least `rows` examples.
      rows: how many examples to encode, at least 2.

    Raises:
      ValueError: naming the encoder whose output depends on the rest of its batch
        (batch normalisation in training mode, shuffled or global statistics), or that
        returns something without one row per example.

    Examples:
      >>> import jax.numpy as jnp
      >>> from contrastive_jax import parallel
      >>> x = jnp.arange(8.0).reshape(4, 2)
      >>> parallel.check_encoders(lambda w, x: x @ w, jnp.eye(2), x)
    """
    fns, batches = by_name(encode_fns), by_name(inputs, encode_fns)
    for name, x in batches.items():
        together, alone = (
            first_rows(name, fns[name], params, x, count) for count in (rows, rows // 2)
        )
        gap, size = 0.0, 0.0
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            b = b.astype(jnp.float32)
            gap = max(gap, float(jnp.max(jnp.abs(a[: len(b)] - b))))
            size = max(size, float(jnp.max(jnp.abs(b))))
        half = any(z.dtype.itemsize < 4 for z in jax.tree.leaves(alone))
        if not gap <= (3e-2 if half else 1e-3) * size:
            raise ValueError(
                f"encode_fns[{name!r}]: an embedding depends on the other rows of its "
                f"batch (by up to {gap:.2g}), so that chunks would change it: use "
                f"frozen statistics, group or layer norm"
            )


def first_rows(name: str, encode: Encode, params: Any, inputs: Any, count: int) -> Any:
    """Embeddings of the first rows alone, checked for one row per example."""
    some = jax.tree.map(lambda x: x[:count], inputs)
    if count < 1 or any(x.shape[0] != count for x in jax.tree.leaves(some)):
        raise ValueError(f"inputs[{name!r}]: expected at least {count} examples")
    check_rows(name, encode, params, jax.tree.map(lambda x: x[:, None], some), count)
    return encode(params, some)
