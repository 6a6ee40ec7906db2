"""Losses of tokens from hidden states: by chunks, and with all logits at once."""

from launch.bench.measure import MIB, matmul_peak, memory_mark, status, timed

# Task -> methods, ours first; the number is the tokens of a chunk.
TASKS = {
    "cross_entropy": ["ours/512", "ours/2048", "jax/plain", "jax/checkpoint"],
    "kl": ["ours/512", "ours/2048", "jax/plain"],
}
VOCABULARY = 49_152  # of SmolLM2, whose states have the width 576
# Products of a matrix of logits' size in ours: of them once more in the gradient.
PRODUCTS = {"cross_entropy": 4, "kl": 6}


def token_loss(task: str, method: str, labels):
    """A loss of (hidden [1, t, d], head [v, d])."""
    import jax
    import jax.numpy as jnp

    from contrastive_jax import losses, similarity

    kind, _, form = method.partition("/")

    def logits(hidden, head):
        return similarity.matmul(hidden[0], head)[None]

    def reference(hidden):
        return hidden[:, ::-1]  # other states of the same kind

    def plain_kl(hidden, head):
        fixed = jax.lax.stop_gradient(logits(reference(hidden), head))
        return losses.distillation_kl(logits(hidden, head)[0], fixed[0])

    def plain(hidden, head):
        return losses.token_cross_entropy(logits(hidden, head), labels)

    if task == "kl":
        if kind == "jax":
            return plain_kl
        return lambda hidden, head: jnp.mean(
            losses.linear_kl(hidden, head, reference(hidden), head, chunk=int(form))
        )
    if kind == "jax":
        return jax.checkpoint(plain) if form == "checkpoint" else plain
    return lambda hidden, head: losses.linear_cross_entropy(
        hidden, head, labels, chunk=int(form)
    )


def measure_tokens(task: str, method: str, rows: int, width: int) -> dict[str, float]:
    """Everything about one method at one number of tokens."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    rng = np.random.default_rng(0)
    hidden = jnp.asarray(rng.normal(size=(1, rows, width)), jnp.float32)
    head = jnp.asarray(rng.normal(size=(VOCABULARY, width)) / width**0.5, jnp.float32)
    labels = jnp.asarray(rng.integers(0, VOCABULARY, (1, rows)))
    peak = matmul_peak(width)
    f = jax.jit(jax.value_and_grad(token_loss(task, method, labels), (0, 1)))
    f = f.lower(hidden, head).compile()
    scratch = f.memory_analysis().temp_size_in_bytes / MIB
    before = memory_mark()
    seconds, out = timed(lambda: jax.block_until_ready(f(hidden, head)), 3)
    value, grads = out
    rise = status("VmHWM") - before
    peak = max(peak, matmul_peak(width))
    work = 2 * PRODUCTS[task] * rows * width * VOCABULARY
    norms = [np.linalg.norm(np.asarray(g, np.float64)) for g in grads]
    return {
        "seconds": seconds,
        "share": work / seconds / peak / 1e9,
        "peak": peak,
        "scratch": scratch,
        "rise": rise,
        "loss": float(value),
        "grad_norm": float(np.linalg.norm(norms)),
    }
