"""Ours beside its peers: time, memory and agreement, in one call, on one thread.

    python -m launch.bench losses --sizes 1024 4096 8192
    python -m launch.bench grad_cache
    python -m launch.bench ring
    python -m launch.bench compile
    python -m launch.bench accuracy
    python -m launch.bench largest
    python -m launch.bench tables

Every measurement is a process of its own, pinned to one core, one after the other, on
the same data: unit rows, the second set a noisy copy of the first. Time is CPU time of
loss and gradient with respect to all embeddings, the best of some calls, since wall
time on a shared machine says little. `rise` is the peak of the resident memory above
that before the first call; `scratch` is what XLA plans besides arguments and results.
`peak` is the rate of a matrix product in the same process; `share` is the operations
this algorithm needs over time and peak. Losses and gradient norms of all methods must
agree, which is checked. A peer that is not installed is named and left out; install the
extra `bench` for them. Results go to RUNS/bench_NAME.json after every measurement, a
plot of all of them beside it; later calls replace what they measure anew.

`ring` and `largest` only compile: scratch per device of a program for 8 devices, and
the most pairs whose scratch and gradients fit into 1 GiB. `compile` starts twice with
one persistent cache. `accuracy` compares a saturated batch with float64. `tables`
measures nothing and prints what is saved as Markdown.
"""

import argparse
import importlib.metadata
import importlib.util
import itertools
import json
import os
import pathlib
import platform
import resource
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCALE = 20.0
MIB = 2**20
ONE_THREAD = {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "cpu"),
}

# Task -> methods, ours first. A method is a library, or "library/form".
LOSSES = {
    "clip": [
        "ours/tiled",
        "ours/general",
        "ours/bf16",
        "jax/plain",
        "open_clip",
        "tokamax",
        "sentence_transformers",
        "sentence_transformers/cached",
    ],
    "info_nce": [
        "ours/tiled",
        "jax/plain",
        "torch",
        "tokamax",
        "sentence_transformers",
        "sentence_transformers/cached",
    ],
    "siglip": ["ours/tiled", "jax/plain", "open_clip", "torch/chunked"],
    "nt_xent": [
        "ours/tiled",
        "ours/general",
        "jax/plain",
        "optax",
        "pytorch_metric_learning",
    ],
    "supcon": [
        "ours/tiled",
        "ours/general",
        "jax/plain",
        "torch",
        "pytorch_metric_learning",
    ],
}
LIBRARIES = (
    "jax",
    "optax",
    "torch",
    "open_clip_torch",
    "sentence-transformers",
    "pytorch-metric-learning",
    "tokamax",
)
# What is quadratic (or cubic) in memory stops here, in rows; `--stretch` moves it.
LARGEST = {
    "jax/plain": 16384,
    "open_clip": 16384,
    "sentence_transformers": 8192,
    "torch": 16384,
    "torch/chunked": 16384,
    "supcon torch": 8192,
    "optax": 1024,
    "nt_xent pytorch_metric_learning": 512,
    "supcon pytorch_metric_learning": 8192,
}
# Operations of our algorithm with gradients, in units of rows^2 * width.
OPERATIONS = {"clip": 8, "info_nce": 6, "siglip": 6, "nt_xent": 4, "supcon": 4}


# The losses: functions from a task's arrays to a scalar. JAX first, then PyTorch.


def jax_loss(task: str, method: str, rows: int):
    """A JAX loss of (a, b), or of (x,) where one set is compared with itself."""
    import jax
    import jax.numpy as jnp

    from contrastive_jax import losses, parallel, similarity

    unit = similarity.l2_normalize
    labels = jnp.arange(rows) % (rows // 2)

    def tokamax_one_way(a, b):
        import tokamax

        return tokamax.linear_softmax_cross_entropy_loss(
            x=a, labels=jnp.arange(rows), weights=SCALE * b.T
        )

    def bf16(x):
        return x.astype(jnp.bfloat16)

    def ntxent(x):
        import optax

        return optax.losses.ntxent(x, labels, temperature=1 / SCALE)

    scores = similarity.dot
    return {
        "clip ours/tiled": lambda a, b: parallel.tiled_two_way_info_nce(
            a, b, scale=SCALE
        ),
        "clip ours/general": lambda a, b: parallel.tiled_two_way_info_nce(
            a, b, scale=SCALE, bounded=False
        ),
        "clip ours/bf16": lambda a, b: parallel.tiled_two_way_info_nce(
            bf16(a), bf16(b), scale=SCALE
        ),
        "clip jax/plain": lambda a, b: losses.two_way_info_nce(SCALE * scores(a, b)),
        "clip tokamax": lambda a, b: (
            (tokamax_one_way(a, b) + tokamax_one_way(b, a)) / (2 * rows)
        ),
        "info_nce ours/tiled": lambda a, b: parallel.tiled_info_nce(a, b, scale=SCALE),
        "info_nce jax/plain": lambda a, b: losses.info_nce(SCALE * scores(a, b)),
        "info_nce tokamax": lambda a, b: tokamax_one_way(a, b) / rows,
        "siglip ours/tiled": lambda a, b: parallel.tiled_sigmoid(
            a, b, scale=10.0, bias=-10.0
        ),
        "siglip jax/plain": lambda a, b: losses.pairwise_sigmoid(
            10 * scores(a, b) - 10
        ),
        "nt_xent ours/tiled": lambda x: parallel.tiled_nt_xent(unit(x), scale=SCALE),
        "nt_xent ours/general": lambda x: parallel.tiled_nt_xent(
            unit(x), scale=SCALE, bounded=False
        ),
        "nt_xent jax/plain": lambda x: losses.nt_xent(SCALE * similarity.cosine(x, x)),
        "nt_xent optax": ntxent,
        "supcon ours/tiled": lambda x: parallel.tiled_supervised_contrastive(
            unit(x), labels % 64, scale=SCALE
        ),
        "supcon ours/general": lambda x: parallel.tiled_supervised_contrastive(
            unit(x), labels % 64, scale=SCALE, bounded=False
        ),
        "supcon jax/plain": lambda x: losses.supervised_contrastive(
            SCALE * similarity.cosine(x, x),
            labels[:, None] % 64 == labels[None, :] % 64,
            where=~jnp.eye(rows, dtype=bool),
        ),
    }.get(f"{task} {method}"), jax


def torch_loss(task: str, method: str, rows: int):
    """A PyTorch loss of (a, b) or (x,)."""
    import torch

    labels = torch.arange(rows) % (rows // 2)
    if task == "supcon" and method == "torch":
        return lambda x: plain_supcon(x, labels % 64)
    if method == "torch/chunked":
        return chunked_sigmoid
    if method == "torch":
        return lambda a, b: torch.nn.functional.cross_entropy(
            SCALE * a @ b.T, torch.arange(rows)
        )
    if method == "open_clip":
        # Its losses alone: the package wants torchvision for its models.
        package = importlib.util.find_spec("open_clip").submodule_search_locations[0]
        file = pathlib.Path(package) / "loss.py"
        spec = importlib.util.spec_from_file_location("open_clip_loss", file)
        open_clip_loss = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(open_clip_loss)
        if task == "clip":
            loss = open_clip_loss.ClipLoss()
            return lambda a, b: loss(a, b, torch.tensor(SCALE))
        loss = open_clip_loss.SigLipLoss()
        return lambda a, b: loss(a, b, torch.tensor(10.0), torch.tensor(-10.0))
    if method.startswith("sentence_transformers"):
        from sentence_transformers.sentence_transformer import losses
        from sentence_transformers.util import dot_score

        options = dict(scale=SCALE, similarity_fct=dot_score)
        if task == "clip":
            options["directions"] = ("query_to_doc", "doc_to_query")
            options["partition_mode"] = "per_direction"
        if method.endswith("/cached"):
            cached = losses.CachedMultipleNegativesRankingLoss
            model = torch.nn.Sequential(torch.nn.Identity())  # embeddings are given
            loss = cached(model, mini_batch_size=512, **options)
            # Differentiates by itself, chunk by chunk.
            return lambda a, b: loss.calculate_loss([[a], [b]], with_backward=True)
        loss = losses.MultipleNegativesRankingLoss(None, **options)
        return lambda a, b: loss.compute_loss_from_embeddings([a, b], None)
    from pytorch_metric_learning import losses

    if task == "nt_xent":
        loss = losses.NTXentLoss(temperature=1 / SCALE)
        return lambda x: loss(x, labels)
    loss = losses.SupConLoss(temperature=1 / SCALE)
    return lambda x: loss(x, labels % 64)


def plain_supcon(x, labels):
    """The supervised loss written with whole matrices in PyTorch."""
    import torch

    x = torch.nn.functional.normalize(x, dim=1)
    logits = SCALE * x @ x.T
    logits = logits - logits.max(dim=1, keepdim=True).values.detach()
    others = 1 - torch.eye(len(x))
    positives = (labels[:, None] == labels[None, :]).float() * others
    log_p = logits - torch.log((torch.exp(logits) * others).sum(1, keepdim=True))
    return -((positives * log_p).sum(1) / positives.sum(1)).mean()


def chunked_sigmoid(a, b, chunk=512):
    """The sigmoid loss over blocks of rows, differentiated by PyTorch as it is."""
    import torch

    total = 0.0
    for start in range(0, len(a), chunk):
        rows = a[start : start + chunk]
        signs = -torch.ones(len(rows), len(b))
        signs.diagonal(start).fill_(1.0)
        logits = 10.0 * rows @ b.T - 10.0
        total = total - torch.nn.functional.logsigmoid(signs * logits).sum()
    return total / len(a)


TORCH = ("torch", "open_clip", "sentence_transformers", "pytorch_metric_learning")


def data(task: str, rows: int, width: int):
    """Unit rows; two sets, or two views stacked into one."""
    import numpy as np

    def unit(x):
        return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)

    rng = np.random.default_rng(0)
    one_set = task in ("nt_xent", "supcon")
    n = rows // 2 if one_set else rows
    a = unit(rng.normal(size=(n, width)))
    b = unit(a + 2.5 / width**0.5 * rng.normal(size=a.shape))
    return [np.concatenate([a, b])] if one_set else [a, b]


# Measuring, in a process of its own


def memory_mark() -> float:
    """Resident memory now, in MiB; forgets earlier peaks where Linux lets us."""
    try:
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass
    return status("VmRSS")


def status(key: str) -> float:
    """A field of /proc/self/status in MiB."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(f, calls: int) -> tuple[float, object]:
    """Least CPU seconds of some calls, and the last result; fewer calls when long."""
    best, spent, out = float("inf"), 0.0, None
    for _ in range(calls):
        out = None  # the memory of one result at a time
        start = time.process_time()
        out = f()
        seconds = time.process_time() - start
        best, spent = min(best, seconds), spent + seconds
        if spent > 10:
            break
    return best, out


def matmul_peak(width: int) -> float:
    """GFLOP/s of a 1024 x width x 1024 product in float32."""
    import jax
    import jax.numpy as jnp

    a = jnp.ones((1024, width))
    f = jax.jit(lambda a: a @ a.T).lower(a).compile()

    def ten():
        for _ in range(10):  # one result at a time: new memory for each is slow
            f(a).block_until_ready()

    seconds, _ = timed(ten, 8)
    return 10 * 2 * 1024 * 1024 * width / seconds / 1e9


def measure_loss(task: str, method: str, rows: int, width: int) -> dict[str, float]:
    """Everything about one method at one size."""
    import numpy as np

    arrays = data(task, rows, width)
    peak = matmul_peak(width)
    result: dict[str, float] = {}
    if method.partition("/")[0] in TORCH:
        import torch

        torch.set_num_threads(1)
        loss = torch_loss(task, method, rows)
        arrays = [torch.tensor(x, requires_grad=True) for x in arrays]

        def call():
            if method.endswith("/cached"):
                for x in arrays:
                    x.grad = None
                return loss(*arrays).detach(), [x.grad for x in arrays]
            value = loss(*arrays)
            return value.detach(), torch.autograd.grad(value, arrays)

        before = memory_mark()
    else:
        loss, jax = jax_loss(task, method, rows)
        arrays = [jax.numpy.asarray(x) for x in arrays]
        f = jax.jit(jax.value_and_grad(loss, tuple(range(len(arrays)))))
        f = f.lower(*arrays).compile()
        result["scratch"] = f.memory_analysis().temp_size_in_bytes / MIB
        before = memory_mark()

        def call():
            return jax.block_until_ready(f(*arrays))

    seconds, out = timed(call, 1)
    # The first call of a long one will do; short ones need many.
    calls = 0 if seconds > 20 else 2 if seconds > 1 else 10 if seconds > 0.1 else 100
    if calls:
        out = None
        again, out = timed(call, calls)
        seconds = min(seconds, again)
    value, grads = out
    result["rise"] = status("VmHWM") - before
    result["peak"] = max(peak, matmul_peak(width))
    norms = [np.linalg.norm(np.asarray(g, np.float64)) for g in grads]
    return result | {
        "seconds": seconds,
        "share": OPERATIONS[task] * rows**2 * width / seconds / result["peak"] / 1e9,
        "loss": float(value),
        "grad_norm": float(np.linalg.norm(norms)),
    }


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
        return parallel.tiled_two_way_info_nce(z["a"], z["b"], scale=SCALE)

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
        if one_set:
            return parallel.ring_nt_xent(*x, "data", scale=SCALE)
        return parallel.ring_two_way_info_nce(*x, "data", scale=SCALE)

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


def measure_accuracy(_: str, method: str, rows: int, width: int) -> dict[str, float]:
    """Relative errors in float32 on a well-trained batch, against float64."""
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp
    import numpy as np

    from contrastive_jax import losses, parallel, similarity

    scale = 100.0
    rng = np.random.default_rng(0)
    a = rng.normal(size=(rows, width))
    b = a + 1.1 * rng.normal(size=a.shape)
    arrays = [np.float32(x / np.linalg.norm(x, axis=1, keepdims=True)) for x in (a, b)]

    def exact(a, b):
        gaps = scale * (a @ b.T)
        own = jnp.diag(gaps)
        off = jnp.where(jnp.eye(rows, dtype=bool), 0, 1)
        there = jnp.log1p(jnp.sum(off * jnp.exp(gaps - own[:, None]), axis=1))
        back = jnp.log1p(jnp.sum(off * jnp.exp(gaps - own[None, :]), axis=0))
        return jnp.mean(there + back) / 2

    def ours(a, b):
        return parallel.tiled_two_way_info_nce(a, b, scale=scale, mode="tiled")

    def plain(a, b):
        return losses.two_way_info_nce(scale * similarity.dot(a, b))

    def naive(a, b):
        logits = scale * (a @ b.T)
        own = jnp.diag(logits)
        sums = (jax.nn.logsumexp(logits, axis=axis) for axis in (0, 1))
        return sum(jnp.mean(x - own) for x in sums) / 2

    def run(loss, dtype):
        f = jax.jit(jax.value_and_grad(loss, (0, 1)))
        return f(*(jnp.asarray(x, dtype) for x in arrays))

    want, want_grads = run(exact, jnp.float64)
    loss = {"ours/tiled": ours, "jax/plain": plain, "jax/naive": naive}[method]
    got, grads = run(loss, jnp.float32)
    gaps = [np.linalg.norm(x - y) for x, y in zip(grads, want_grads, strict=True)]
    norms = [np.linalg.norm(y) for y in want_grads]
    return {
        "exact_loss": float(want),
        "value_error": float(abs(got - want) / want),
        "grad_error": float(np.linalg.norm(gaps) / np.linalg.norm(norms)),
    }


def measure_largest(task: str, method: str, _: int, width: int) -> dict[str, float]:
    """Most rows whose planned scratch and gradients fit into 1 GiB."""
    import jax

    def planned(rows):
        loss, _ = jax_loss(task, method, rows)
        x = jax.ShapeDtypeStruct((rows, width), jax.numpy.float32)
        args = (x,) * (1 if task in ("nt_xent", "supcon") else 2)
        f = jax.jit(jax.value_and_grad(loss, tuple(range(len(args)))))
        return f.lower(*args).compile().memory_analysis()

    def fits(rows):
        plan = planned(rows)
        return plan.temp_size_in_bytes + plan.output_size_in_bytes <= 1024 * MIB

    step = 1024
    low, high = 0, 1  # in steps; `high` does not fit
    while high < 1024 and fits(high * step):
        low, high = high, 2 * high
    while high - low > max(1, low // 32):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle * step) else (low, middle)
    scratch = {
        f"scratch_{n}": planned(n).temp_size_in_bytes / MIB for n in (2048, 16384)
    }
    return {"largest_rows": low * step} | scratch


# The command


def child(
    bench: str, case: list, env: dict[str, str], core: int | None = None
) -> dict | str:
    """One measurement in a process of its own; a string says why there is none."""
    command = [sys.executable, "-m", "launch.bench", bench, "--case", json.dumps(case)]
    if hasattr(os, "sched_setaffinity"):
        command += [
            "--core",
            str(min(os.sched_getaffinity(0)) if core is None else core),
        ]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "Error" in line]
        return (lines or [f"exit {done.returncode}"])[-1]
    return json.loads(done.stdout.splitlines()[-1])


def installed(method: str) -> bool:
    """Whether the library of a method is there."""
    library = method.partition("/")[0]
    if library in (*TORCH, "jax", "optax", "tokamax"):
        return importlib.util.find_spec(library) is not None
    return True  # ours


def processor() -> str:
    """What Linux calls the processor; the architecture elsewhere."""
    file = pathlib.Path("/proc/cpuinfo")
    for line in file.read_text().splitlines() if file.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def versions() -> dict[str, str]:
    """Interpreter, machine and the libraries measured."""
    found = {"python": platform.python_version(), "machine": processor()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def largest(task: str, method: str) -> int:
    """Most rows a method is measured with."""
    return LARGEST.get(f"{task} {method}", LARGEST.get(method, 2**62))


def cases(bench: str, args: argparse.Namespace) -> list[list]:
    """[task, method, rows, width] of everything a bench measures."""
    if bench == "losses":
        return [
            [task, method, rows, args.width]
            for task, methods in LOSSES.items()
            if not args.tasks or task in args.tasks
            for rows in args.sizes or [1024, 4096]
            for method in methods
            if rows <= args.stretch * largest(task, method)
        ]
    if bench == "grad_cache":
        methods = ["whole", "checkpoint", "chunk/16", "chunk/64", "chunk/256"]
        sizes = args.sizes or [512]
        return [["clip", m, rows, 128] for rows in sizes for m in methods]
    tasks = args.tasks or ["clip", "nt_xent"]
    if bench == "accuracy":
        methods = ["ours/tiled", "jax/plain", "jax/naive"]
        return [
            ["clip", m, n, args.width] for n in args.sizes or [2048] for m in methods
        ]
    if bench == "largest":
        return [
            [task, method, 0, args.width]
            for task in tasks
            for method in LOSSES[task]
            if method.partition("/")[0] not in TORCH
        ]
    if bench == "ring":
        sizes, methods, width = args.sizes or [8192, 131072], ["ring", "plain"], 512
    else:
        sizes, width = args.sizes or [8192], args.width
        methods = ["tiled", "general", "plain"]
        towers = [["clip", "towers", 256, 128]] if "clip" in tasks else []
        return [
            [t, m, n, width] for t in tasks for n in sizes for m in methods
        ] + towers
    return [[t, m, rows, width] for t in tasks for rows in sizes for m in methods]


def size(row: dict) -> tuple:
    """What must be equal for two methods to be compared."""
    return row["task"], row["rows"], row["width"]


def check_agreement(results: list[dict]) -> list[str]:
    """Methods whose loss or gradient norm differs from ours at the same size."""
    problems = []
    for r in results:
        ours = next(o for o in results if size(o) == size(r))
        tolerance = 2e-2 if "bf16" in r["method"] else 2e-3
        for key in ("loss", "grad_norm"):
            if key in r and abs(r[key] - ours[key]) > tolerance * abs(ours[key]):
                problems.append(
                    f"{r['task']} {r['rows']}: {key} of {r['method']} is {r[key]:.6g}, "
                    f"of {ours['method']} {ours[key]:.6g}"
                )
    return problems


def show(results: list[dict]) -> None:
    """Prints a table; times and memory also as a multiple of the first method."""
    keys = sorted({k for r in results for k in r} - {"task", "method", "rows", "width"})
    print(f"{'task':9} {'rows':>7} {'method':29}" + "".join(f"{k:>13}" for k in keys))
    for r in results:
        cells = "".join(f"{r[k]:13.4g}" if k in r else " " * 13 for k in keys)
        first = next(o for o in results if size(o) == size(r))
        for key in ("seconds", "scratch", "rise"):
            if r is not first and first.get(key, 0) > 0 and key in r:
                cells += f"  {key} x{r[key] / first[key]:.2f}"
        print(f"{r['task']:9} {r['rows']:7} {r['method']:29}{cells}")


COLUMNS = {
    "seconds": "CPU s",
    "trace_seconds": "trace, CPU s",
    "share": "share of peak",
    "peak": "peak, GFLOP/s",
    "scratch": "scratch, MiB",
    "rise": "memory rise, MiB",
    "loss": "loss",
    "grad_norm": "gradient norm",
}


def tables(runs: pathlib.Path) -> None:
    """Prints the saved results as Markdown, one table per bench and task."""
    for bench in MEASURE:
        file = runs / f"bench_{bench}.json"
        if not file.exists():
            continue
        results = json.loads(file.read_text(encoding="utf-8"))["results"]
        order = (
            LOSSES if bench == "losses" else dict.fromkeys(r["task"] for r in results)
        )
        for task in order:
            of_task = [r for r in results if r["task"] == task]
            of_task.sort(key=lambda r: (r["width"], r["rows"]))  # as measured within
            if of_task:
                print(f"\n### {bench}: {task}\n\n" + markdown(of_task))


def markdown(results: list[dict]) -> str:
    """A table; times and memory also as multiples of the first method of a size."""
    extra = dict.fromkeys(k for r in results for k in r if k not in COLUMNS)
    known = [k for k in COLUMNS if any(k in r for r in results)]
    keys = [k for k in extra if k not in ("task", "method", "rows", "width")]
    names = ["rows x width", "method", *(COLUMNS.get(k, k) for k in known), *keys]
    lines = [names, ["---"] * len(names)]
    for r in results:
        first = next(o for o in results if size(o) == size(r))
        cells = [f"{r['rows']:,} x {r['width']}", r["method"]]
        for key in (*known, *keys):
            if key not in r:
                cells.append("")
                continue
            cell = f"{r[key]:.3g}" if abs(r[key]) < 100 else f"{r[key]:,.0f}"
            if key in ("seconds", "scratch", "rise") and r is not first and first[key]:
                cell += f" (x{r[key] / first[key]:.2f})"
            cells.append(cell)
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def plot(results: list[dict], file: pathlib.Path) -> None:
    """Time and memory rise against rows, one column of panels per task."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

    widths = [r["width"] for r in results]
    width = max(set(widths), key=widths.count)
    results = [r for r in results if r["width"] == width]
    tasks = [task for task in LOSSES if any(r["task"] == task for r in results)]
    methods = list(dict.fromkeys(m for task in tasks for m in LOSSES[task]))
    shape = dict(figsize=(3.0 * len(tasks), 6.2), squeeze=False)
    figure, axes = plt.subplots(2, len(tasks), **shape)
    lines = {}
    for (row, key), (column, task) in itertools.product(
        enumerate(("seconds", "rise")), enumerate(tasks)
    ):
        axis = axes[row][column]
        sizes = sorted({r["rows"] for r in results if r["task"] == task})
        for i, method in enumerate(methods):
            points = sorted(
                (r["rows"], r[key])
                for r in results
                if (r["task"], r["method"]) == (task, method)
            )
            if points:
                style = dict(
                    marker="osv^D"[i % 5], markersize=4, color=plt.cm.tab20(i % 20)
                )
                style["linestyle"] = "-" if method.startswith("ours") else "--"
                lines[method] = axis.loglog(*zip(*points, strict=True), **style)[0]
        axis.set_title(task if row == 0 else "")
        axis.set_xlabel("rows")
        axis.grid(alpha=0.3)
        axis.set_xticks(sizes, [f"{n:,}" for n in sizes], rotation=45, fontsize=8)
        axis.set_xlim(sizes[0] / 1.3, sizes[-1] * 1.3)
        axis.xaxis.set_minor_locator(NullLocator())
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.yaxis.set_major_locator(LogLocator(numticks=8))
        low, high = axis.get_ylim()
        axis.set_ylim(min(low, high / 100), high * 1.3)
    axes[0][0].set_ylabel("CPU seconds, loss and gradient")
    axes[1][0].set_ylabel("rise of resident memory, MiB")
    figure.suptitle(f"Embeddings of width {width}, float32 (or as named), one thread")
    figure.legend(
        lines.values(), lines, loc="lower center", ncols=min(5, len(lines)), fontsize=8
    )
    figure.tight_layout(rect=(0, 0.09, 1, 1))
    figure.savefig(file, dpi=110)
    plt.close(figure)


MEASURE = {
    "losses": measure_loss,
    "grad_cache": measure_grad_cache,
    "ring": measure_ring,
    "compile": measure_compile,
    "accuracy": measure_accuracy,
    "largest": measure_largest,
}


def main(argv: list[str] | None = None) -> int:
    """Runs one bench; 1 when results disagree."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bench", choices=[*MEASURE, "tables"])
    parser.add_argument("--sizes", type=int, nargs="+", help="rows")
    parser.add_argument("--tasks", nargs="+", help="some of the tasks only")
    parser.add_argument("--width", type=int, default=256, help="embedding width")
    parser.add_argument("--methods", nargs="+", help="some of the methods only")
    parser.add_argument(
        "--stretch",
        type=float,
        default=1,
        help="so many times the usual largest rows of what is quadratic in memory",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=1,
        help="so often all methods in turn; of each, least time and memory count",
    )
    parser.add_argument("--core", type=int, help="core to stay on; the first allowed")
    parser.add_argument("--runs", type=pathlib.Path, default=ROOT / "runs")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.case:
        if args.core is not None:
            os.sched_setaffinity(0, {args.core})
        sys.argv = sys.argv[:1]  # some libraries read the command line themselves
        print(json.dumps(MEASURE[args.bench](*args.case)))
        return 0
    if args.bench == "tables":
        tables(args.runs)
        return 0
    args.runs.mkdir(parents=True, exist_ok=True)
    file = args.runs / f"bench_{args.bench}.json"
    best, skipped = {}, set()
    print(" ".join(f"{k} {v}" for k, v in versions().items()))
    chosen = cases(args.bench, args) * args.rounds
    with tempfile.TemporaryDirectory() as cache:
        for number, case in enumerate(chosen):
            task, method, rows, width = case
            if args.methods and method not in args.methods:
                continue
            if not installed(method):
                skipped.add(method)
                continue
            env = ONE_THREAD | {"BENCH_CACHE": f"{cache}/{number}"}
            for start in ("first", "second") if args.bench == "compile" else ("",):
                found = child(args.bench, case, env, args.core)
                name = f"{method} {start}".strip()
                if isinstance(found, str):
                    print(f"{task} {rows} {name}: no result: {found}")
                    continue
                row = dict(task=task, method=name, rows=rows, width=width, **found)
                print(json.dumps(row), flush=True)
                key = (*size(row), name)
                best[key] = better(best.get(key), row)
                results = save(file, best[key])
    fresh = list(best.values())
    for method in sorted(skipped):
        print(f"{method}: not installed, left out (extra `bench`)")
    show(fresh)
    if not fresh:
        return 1
    print(f"saved {file}")
    if args.bench == "losses":
        plot(results, file.with_suffix(".png"))
    problems = check_agreement(fresh)
    print("\n".join(problems) or "losses and gradients agree")
    return 1 if problems else 0


def better(old: dict | None, new: dict) -> dict:
    """The faster of two measurements, with the lesser memory rise of the two."""
    if old is None:
        return new
    row = min(old, new, key=lambda r: r.get("seconds", 0))
    return row | {k: min(old[k], new[k]) for k in ("rise",) if k in row}


def save(file: pathlib.Path, row: dict) -> list[dict]:
    """Adds a measurement to the file, in place of an older one of the same case."""
    old = json.loads(file.read_text())["results"] if file.exists() else []
    kept = {(*size(r), r["method"]): r for r in [*old, row]}  # each in its old place
    results = list(kept.values())
    report = {"versions": versions(), "results": results}
    whole = file.with_suffix(f".{os.getpid()}")
    whole.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    whole.replace(file)
    return results


if __name__ == "__main__":
    sys.exit(main())
