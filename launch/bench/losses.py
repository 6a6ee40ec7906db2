"""The losses of ours and of peers: what each is measured with, and how."""

import importlib.util
import pathlib

from launch.bench.measure import (
    MIB,
    SCALE,
    TORCH,
    matmul_peak,
    memory_mark,
    status,
    timed,
)

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


# The same for losses of distances, whose memory is the point.
DISTANCES = {
    "triplet": ["ours", "jax/plain", "optax", "pytorch_metric_learning"],
    "manhattan": ["ours", "jax/plain", "pytorch_metric_learning"],
    "uniformity": ["ours", "jax/plain"],
}


# Margins at which triplets cost something: sums of absolute differences are larger.
MARGINS = {"triplet": 0.2, "manhattan": 5.0}


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
    # Differences of all pairs: 2 GiB for 1,024 rows of width 512.
    "triplet jax/plain": 1024,
    "triplet optax": 4096,
    "manhattan jax/plain": 1024,
    "uniformity jax/plain": 1024,
}


# Operations of our algorithm with gradients, in units of rows^2 * width.
OPERATIONS = {"clip": 8, "info_nce": 6, "siglip": 6, "nt_xent": 4, "supcon": 4}
OPERATIONS |= dict.fromkeys(DISTANCES, 6)


def jax_loss(task: str, method: str, rows: int):
    """A JAX loss of (a, b), or of (x,) where one set is compared with itself."""
    import jax
    import jax.numpy as jnp

    from contrastive_jax import losses, pairs, parallel, similarity
    from contrastive_jax.parallel import tiled

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

    def masks():
        # Made in the program: of constants XLA would compute what it can, for minutes.
        return pairs.same_label(labels), ~pairs.one_column(jnp.arange(rows), rows)

    def triplet(distances):
        same, others = masks()
        return losses.triplet_batch_hard(
            distances, same, where=others, margin=MARGINS[task]
        )

    def differences(x):
        return x[:, None, :] - x[None, :, :]

    def lengths(x):
        squares, (_, others) = jnp.sum(differences(x) ** 2, axis=-1), masks()
        return jnp.where(others, jnp.sqrt(jnp.where(others, squares, 1)), 0)

    def optax_triplet(x):
        # It takes given triplets: here the hardest, found without a gradient.
        import optax

        same, others = masks()
        d = jax.lax.stop_gradient(similarity.euclidean_distance(x, x))
        far = pairs.hardest(d, same & others)
        near = pairs.hardest(-d, ~same)
        loss = optax.losses.triplet_margin_loss(x, x[far], x[near], margin=0.2)
        return jnp.mean(loss)

    scores = similarity.dot
    return {
        "triplet ours": lambda x: triplet(similarity.euclidean_distance(x, x)),
        "triplet jax/plain": lambda x: triplet(lengths(x)),
        "triplet optax": optax_triplet,
        "manhattan ours": lambda x: triplet(similarity.manhattan_distance(x, x)),
        "manhattan jax/plain": lambda x: triplet(
            jnp.sum(jnp.abs(differences(x)), axis=-1)
        ),
        "uniformity ours": losses.uniformity,
        "uniformity jax/plain": lambda x: jnp.log(
            jnp.sum(jnp.where(masks()[1], jnp.exp(-2 * lengths(x) ** 2), 0))
            / (rows * (rows - 1))
        ),
        "clip ours/tiled": lambda a, b: parallel.two_way_info_nce(a, b, scale=SCALE),
        "clip ours/general": lambda a, b: tiled.two_way_info_nce(
            a, b, scale=SCALE, bounded=False
        ),
        "clip ours/bf16": lambda a, b: parallel.two_way_info_nce(
            bf16(a), bf16(b), scale=SCALE
        ),
        "clip jax/plain": lambda a, b: losses.two_way_info_nce(SCALE * scores(a, b)),
        "clip tokamax": lambda a, b: (
            (tokamax_one_way(a, b) + tokamax_one_way(b, a)) / (2 * rows)
        ),
        "info_nce ours/tiled": lambda a, b: parallel.info_nce(a, b, scale=SCALE),
        "info_nce jax/plain": lambda a, b: losses.info_nce(SCALE * scores(a, b)),
        "info_nce tokamax": lambda a, b: tokamax_one_way(a, b) / rows,
        "siglip ours/tiled": lambda a, b: parallel.pairwise_sigmoid(
            a, b, scale=10.0, bias=-10.0
        ),
        "siglip jax/plain": lambda a, b: losses.pairwise_sigmoid(
            10 * scores(a, b) - 10
        ),
        "nt_xent ours/tiled": lambda x: parallel.nt_xent(unit(x), scale=SCALE),
        "nt_xent ours/general": lambda x: tiled.nt_xent(
            unit(x), scale=SCALE, bounded=False
        ),
        "nt_xent jax/plain": lambda x: losses.nt_xent(SCALE * similarity.cosine(x, x)),
        "nt_xent optax": ntxent,
        "supcon ours/tiled": lambda x: parallel.supervised_contrastive(
            unit(x), labels % 64, scale=SCALE
        ),
        "supcon ours/general": lambda x: tiled.supervised_contrastive(
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

    if task in DISTANCES:
        from pytorch_metric_learning import distances, miners, reducers

        distance = distances.LpDistance(
            p=2 if task == "triplet" else 1, normalize_embeddings=False
        )
        mine = miners.BatchHardMiner(distance=distance)
        loss = losses.TripletMarginLoss(
            margin=MARGINS[task], distance=distance, reducer=reducers.MeanReducer()
        )
        return lambda x: loss(x, labels, mine(x, labels))
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


def data(task: str, rows: int, width: int):
    """Unit rows; two sets, or two views stacked into one."""
    import numpy as np

    def unit(x):
        return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)

    rng = np.random.default_rng(0)
    one_set = task in ("nt_xent", "supcon", *DISTANCES)
    n = rows // 2 if one_set else rows
    a = unit(rng.normal(size=(n, width)))
    b = unit(a + 2.5 / width**0.5 * rng.normal(size=a.shape))
    return [np.concatenate([a, b])] if one_set else [a, b]


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


def measure_accuracy(_: str, method: str, rows: int, width: int) -> dict[str, float]:
    """Relative errors in float32 on a well-trained batch, against float64."""
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp
    import numpy as np

    from contrastive_jax import losses, similarity
    from contrastive_jax.parallel import tiled

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
        return tiled.two_way_info_nce(a, b, scale=scale, mode="tiled")

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


def largest(task: str, method: str) -> int:
    """Most rows a method is measured with."""
    return LARGEST.get(f"{task} {method}", LARGEST.get(method, 2**62))
