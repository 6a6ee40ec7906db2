"""Gradient caching, the ring over devices, and compilation."""

import os
import time

from launch.bench.losses import (
    jax_loss,
)
from launch.bench.measure import (
    MIB,
    SCALE,
    memory_mark,
    status,
    timed,
)


def transformer(params, tokens):
    """Mean output of small pre-norm attention blocks, in plain JAX."""
    import jax
    import jax.numpy as jnp

    def norm(x):
        x = x - jnp.mean(x, -1, keepdims=True)
        return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)

    x = params["embed"][tokens]
    for p in params["blocks"]:
        q, k, v = jnp.split((norm(x) @ p["qkv"]).reshape(*x.shape[:2], 4, -1), 3, -1)
        weights = jnp.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5
        weights = jax.nn.softmax(weights)
        x = x + jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(x.shape) @ p["out"]
        x = x + jax.nn.gelu(norm(x) @ p["up"]) @ p["down"]
    x = jnp.mean(norm(x), axis=1)
    return x / jnp.linalg.norm(x, axis=1, keepdims=True)


def towers(rows: int, width: int, blocks: int):
    """Parameters of two towers of blocks, and tokens for them, 32 per example."""
    import jax.numpy as jnp
    import numpy as np

    rng = np.random.default_rng(0)

    def weight(*shape):
        return jnp.asarray(rng.normal(size=shape) / shape[0] ** 0.5, jnp.float32)

    def tower():
        sizes = {"qkv": 3, "out": 1, "up": 4}
        layers = [
            {k: weight(width, n * width) for k, n in sizes.items()}
            | {"down": weight(4 * width, width)}
            for _ in range(blocks)
        ]
        return {"embed": weight(1000, width), "blocks": layers}

    tokens = jnp.asarray(rng.integers(0, 1000, size=(2, rows, 32)))
    return {"a": tower(), "b": tower()}, {"a": tokens[0], "b": tokens[1]}


def measure_grad_cache(_: str, method: str, rows: int, width: int) -> dict[str, float]:
    """Two towers of 3 blocks, 32 tokens: the whole batch against chunks."""
    import jax
    import jax.numpy as jnp

    from contrastive_jax import parallel

    params, inputs = towers(rows, width, 3)

    def encoder(name, wrap=lambda f: f):
        return wrap(lambda params, x: transformer(params[name], x))

    def loss(params, z):
        return parallel.two_way_info_nce(z["a"], z["b"], scale=SCALE)

    kind, _, chunk = method.partition("/")
    if kind == "chunk":
        encoders = {name: encoder(name) for name in inputs}
        run = parallel.cached_value_and_grad(encoders, loss, None, chunk=int(chunk))
    else:
        wrap = jax.checkpoint if kind == "checkpoint" else lambda f: f

        def whole(params, inputs):
            z = {k: encoder(k, wrap)(params, x) for k, x in inputs.items()}
            return loss(params, z)

        run = jax.value_and_grad(whole)
    f = jax.jit(run).lower(params, inputs).compile()
    before = memory_mark()
    call = lambda: jax.block_until_ready(f(params, inputs))  # noqa: E731
    value, grads = call()
    seconds, _ = timed(call, 2)
    rise = status("VmHWM") - before
    return {
        "seconds": seconds,
        "scratch": f.memory_analysis().temp_size_in_bytes / MIB,
        "rise": rise,
        "loss": float(value),
        "grad_norm": float(
            jnp.sqrt(sum(jnp.sum(g * g) for g in jax.tree.leaves(grads)))
        ),
    }


def measure_ring(task: str, method: str, rows: int, width: int) -> dict[str, float]:
    """Scratch per device of the program for 8 devices; nothing is allocated or run."""
    import jax

    jax.config.update("jax_num_cpu_devices", 8)
    import jax.numpy as jnp
    from jax.sharding import NamedSharding, PartitionSpec

    from contrastive_jax import losses, parallel, similarity

    mesh, spec = parallel.make_mesh(jax.devices()), PartitionSpec("data")
    one_set = task == "nt_xent"

    def ring(*x):
        loss = parallel.nt_xent if one_set else parallel.two_way_info_nce
        return loss(*x, axis_name="data", exchange="ring", scale=SCALE)

    def plain(a, b=None):
        logits = SCALE * similarity.dot(a, a if one_set else b)
        return (losses.nt_xent if one_set else losses.two_way_info_nce)(logits)

    count = 1 if one_set else 2
    f = jax.value_and_grad(plain if method == "plain" else ring, tuple(range(count)))
    if method != "plain":
        out = PartitionSpec(), (spec,) * count
        f = jax.shard_map(f, mesh=mesh, in_specs=spec, out_specs=out)
    sharding = NamedSharding(mesh, spec)
    x = jax.ShapeDtypeStruct((rows, width), jnp.float32, sharding=sharding)
    program = jax.jit(f).lower(*(x,) * count).compile()
    text = program.as_text()
    return {
        "scratch": program.memory_analysis().temp_size_in_bytes / MIB,
        "all_gathers": text.count(" all-gather(") + text.count(" all-gather-start("),
        "permutes": text.count(" collective-permute(")
        + text.count(" collective-permute-start("),
    }


def measure_compile(task: str, method: str, rows: int, width: int) -> dict[str, float]:
    """CPU seconds from start to a compiled loss and gradient, with the cache given."""
    import jax

    jax.config.update("jax_compilation_cache_dir", os.environ["BENCH_CACHE"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    if method == "towers":
        tower_loss, _ = jax_loss(task, "ours/tiled", rows)
        args = towers(rows, 128, 6)

        def loss(params, inputs):
            z = [transformer(params[k], inputs[k]) for k in ("a", "b")]
            return tower_loss(*z)

        f = jax.jit(jax.value_and_grad(loss))
    else:
        loss, _ = jax_loss(
            task, f"{'jax' if method == 'plain' else 'ours'}/{method}", rows
        )
        x = jax.ShapeDtypeStruct((rows, width), jax.numpy.float32)
        args = (x,) * (1 if task in ("nt_xent", "supcon") else 2)
        f = jax.jit(jax.value_and_grad(loss, tuple(range(len(args)))))
    start = time.process_time()
    lowered = f.lower(*args)
    traced = time.process_time()
    lowered.compile()
    end = time.process_time()
    return {"trace_seconds": traced - start, "seconds": end - traced}
