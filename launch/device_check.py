"""One table of what an accelerator does with the losses and with a training step.

    python -m launch.device_check
    python -m launch.device_check --rows 1024 --width 64 --images 2 --image-size 64

Rates are TFLOP/s: the operations that an algorithm needs over wall time, the best of
three repetitions. `share` is a rate over that of a square matrix product of the same
type in the same process. `scratch` is what XLA plans besides arguments and results.

- product: a matrix product, square and of the shape of a tile.
- step: SimCLR on ResNet-50 as the variant "paper" configures it, two views an image;
  its operations are three times those that XLA counts in the forward pass.
- loss: value and gradient of all embeddings, CLIP with several sides of a tile; then
  the loss of the whole matrix, and ours beside it, at a quarter of the rows.
- agreement: relative errors of value and gradient of the tiled losses against the
  whole matrix in float32 of the same numbers; for bfloat16 within its own rounding.

The table is printed and saved as RUNS/device_check.json and .md. Status 1: a tiled loss
disagrees, or nothing could be measured.
"""

import argparse
import functools
import json
import pathlib
import platform
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from contrastive_jax import parallel, similarity, training
from contrastive_jax.parallel import tiles
from experiments.simclr import config as simclr_config
from experiments.simclr import experiment as simclr
from launch.bench.losses import OPERATIONS, jax_loss
from launch.bench.measure import MIB, ROOT, SCALE

SIDES = {"bfloat16": (1024, 2048, 4096, 8192), "float32": (2048, 4096)}
# Largest relative error of value and of gradient that is rounding.
ROUNDING = {"bfloat16": (1e-4, 5e-3), "float32": (1e-5, 1e-4)}
Row = dict[str, Any]


def supervised(x: jax.Array, **options: Any) -> jax.Array:
    """Of 64 classes."""
    labels = jnp.arange(len(x)) % (len(x) // 2) % 64
    return parallel.supervised_contrastive(x, labels, scale=SCALE, **options)


# As `launch.bench` has them, but of rows that have unit length already.
LOSSES = {
    "clip": functools.partial(parallel.two_way_info_nce, scale=SCALE),
    "info_nce": functools.partial(parallel.info_nce, scale=SCALE),
    "siglip": functools.partial(parallel.pairwise_sigmoid, scale=10.0, bias=-10.0),
    "nt_xent": functools.partial(parallel.nt_xent, scale=SCALE),
    "supcon": supervised,
}


def measured(f, *args) -> tuple[float, float]:
    """Seconds of a call, the best of three repetitions, and MiB of scratch."""
    program = jax.jit(f).lower(*args).compile()
    jax.block_until_ready(program(*args))
    calls, best, out = 1, float("inf"), None
    for _ in range(4):  # the first shows how many calls make a repetition
        start = time.perf_counter()
        for _ in range(calls):
            out = program(*args)
        jax.block_until_ready(out)
        once = (time.perf_counter() - start) / calls
        best, calls = min(best, once), max(1, round(0.3 / once))
    analysis = program.memory_analysis()
    return best, getattr(analysis, "temp_size_in_bytes", 0) / MIB


def rate(f, args, operations: float) -> Row:
    """What `measured` says as a part of a row; or why there is nothing."""
    try:
        once, scratch = measured(f, *args)
    except jax.errors.JaxRuntimeError as e:
        return {"failed": str(e).partition("\n")[0][:60]}
    return dict(ms=once * 1e3, rate=operations / once / 1e12, scratch=scratch)


def rows_by_columns(a, b):
    """The product that the losses take of a tile."""
    return tiles.product(a, b, (1, 0))


def products(width: int, side: int) -> Iterator[Row]:
    """Matrix products as the losses take them."""
    for dtype in SIDES:
        for name, k in [("square", side), ("tile", width)]:
            keys = jax.random.split(jax.random.key(0))
            a = jax.random.normal(keys[0], (side, k), dtype)
            b = jax.random.normal(keys[1], (k, side), dtype)
            row = dict(what="product", name=name, type=dtype, rows=side)
            yield row | rate(rows_by_columns, (a, b), 2 * side * side * k)


def embeddings(task: str, rows: int, width: int, dtype: str) -> list[jax.Array]:
    """Unit rows of two sets or of one, the second set or half a noisy copy."""
    one_set = task in ("nt_xent", "supcon")
    n = rows // 2 if one_set else rows

    @jax.jit
    def make(key):
        keys = jax.random.split(key)
        a = similarity.l2_normalize(jax.random.normal(keys[0], (n, width)))
        noise = 2.5 / width**0.5 * jax.random.normal(keys[1], a.shape)
        x = [a, similarity.l2_normalize(a + noise)]
        x = [jnp.concatenate(x)] if one_set else x
        return [y.astype(dtype) for y in x]

    return make(jax.random.key(0))


def value_and_grad(task: str, rows: int, plain: bool = False, **options: Any):
    """A loss, tiled or of the whole matrix, with the gradients of all embeddings."""
    if plain:
        loss = jax_loss(task, "jax/plain", rows)[0]
    else:
        loss = functools.partial(LOSSES[task], **options)
    return jax.value_and_grad(loss, (0,) if task in ("nt_xent", "supcon") else (0, 1))


def speeds(rows: int, width: int) -> Iterator[Row]:
    """The losses at all sizes."""
    few = rows // 4
    for dtype, sides in SIDES.items():
        chosen = [("clip", rows, False, {"tile": side}) for side in sides]
        chosen += [(task, rows, False, {}) for task in LOSSES if task != "clip"]
        chosen += [("clip", few, plain, {}) for plain in (False, True)]
        for task, n, plain, options in chosen:
            f = value_and_grad(task, n, plain, **options)
            form = "plain" if plain else "tiled"
            row = dict(what="loss", name=task, type=dtype, rows=n, form=form)
            row["tile"] = "" if plain else options.get("tile", tiles.tile_side(None))
            args = embeddings(task, n, width, dtype)
            yield row | rate(f, args, OPERATIONS[task] * n**2 * width)


def agreement(rows: int, width: int) -> Iterator[Row]:
    """The tiled losses against the whole matrix."""

    def norm(tree):
        return jnp.sqrt(sum(jnp.sum(x.astype(jnp.float32) ** 2) for x in tree))

    @jax.jit
    def errors(inputs):
        found = {}
        for task, x in inputs.items():
            got, grads = value_and_grad(task, rows)(*x)
            x = [y.astype(jnp.float32) for y in x]
            with jax.default_matmul_precision("highest"):
                want, exact = value_and_grad(task, rows, plain=True)(*x)
            gaps = jax.tree.map(lambda g, e: g.astype(e.dtype) - e, grads, exact)
            found[task] = abs(got - want) / want, norm(gaps) / norm(exact)
        return found

    for dtype, largest in ROUNDING.items():
        x = {task: embeddings(task, rows, width, dtype) for task in LOSSES}
        for task, (value, gradient) in errors(x).items():
            row = dict(what="agreement", name=task, type=dtype, rows=rows)
            row |= dict(value=float(value), gradient=float(gradient))
            yield row | {"agrees": bool(value <= largest[0] and gradient <= largest[1])}


def training_step(images: int, size: int) -> Iterator[Row]:
    """A step of SimCLR's variant "paper" on images made up on the device."""
    config = simclr_config.get_config("paper")
    config.data.augment.size = (size, size)
    state = jax.jit(lambda: simclr.init(config))()
    shape = (images, *simclr_config.paper_batch()["image"][0])
    pixels = jax.random.randint(jax.random.key(1), shape, 0, 256).astype(jnp.uint8)
    views = jax.ShapeDtypeStruct((2 * images, size, size, 3), jnp.float32)
    forward = functools.partial(training.apply_model, simclr.make_model(config))
    forward = jax.jit(forward).lower(state.params, state.model_state, views)
    operations = 3 * forward.cost_analysis()["flops"]
    row = dict(what="step", name="simclr", type=config.model.dtype, rows=images)
    row |= rate(simclr.make_step(config), (state, {"image": pixels}), operations)
    if "ms" in row:
        row["images_per_second"] = images / row["ms"] * 1e3
    yield row


def with_share(row: Row, rows: list[Row]) -> Row:
    """A row with its share of the square product of its type."""
    for other in rows:
        square = (other["what"], other["name"]) == ("product", "square")
        if (
            square
            and other["type"] == row["type"]
            and "rate" in row
            and "rate" in other
        ):
            return row | {"share": row["rate"] / other["rate"]}
    return row


def cell(value: object) -> str:
    """A number with three digits, anything else as it is."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def markdown(rows: list[Row]) -> str:
    """A table of each kind of row."""
    lines = []
    for what in dict.fromkeys(r["what"] for r in rows):
        part = [r for r in rows if r["what"] == what]
        keys = list(dict.fromkeys(k for r in part for k in r if k != "what"))
        lines += ["", f"### {what}", "", "| " + " | ".join(keys) + " |"]
        lines.append("| " + " | ".join("---" for _ in keys) + " |")
        for r in part:
            lines.append("| " + " | ".join(cell(r.get(k, "")) for k in keys) + " |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Measures, prints and saves; 1 when results disagree."""
    parser = argparse.ArgumentParser(
        prog="launch/device_check", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--rows", type=int, default=65_536, help="of each loss")
    parser.add_argument("--width", type=int, default=1024, help="of an embedding")
    parser.add_argument("--side", type=int, default=8192, help="of the matrix product")
    parser.add_argument("--images", type=int, default=256, help="of a training step")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--runs", type=pathlib.Path, default=ROOT / "runs")
    args = parser.parse_args(argv)
    start, device = time.perf_counter(), jax.devices()[0]
    machine = (
        f"{device.device_kind}, jax {jax.__version__}, {platform.python_version()}"
    )
    print(machine, flush=True)
    rows: list[Row] = []
    for part in (
        products(args.width, args.side),
        training_step(args.images, args.image_size),
        speeds(args.rows, args.width),
        agreement(min(args.rows, 4096), args.width),
    ):
        for row in part:
            rows.append(with_share(row, rows))
            cells = " ".join(f"{k} {cell(v)}" for k, v in rows[-1].items())
            print(f"{time.perf_counter() - start:4.0f} s {cells}", flush=True)
    elapsed = time.perf_counter() - start
    text = f"{machine}, {elapsed:.0f} s in all\n{markdown(rows)}\n"
    args.runs.mkdir(parents=True, exist_ok=True)
    file = args.runs / "device_check.json"
    results = {"machine": machine, "seconds": elapsed, "results": rows}
    file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    file.with_suffix(".md").write_text(text, encoding="utf-8")
    print(f"{text}saved {file}")
    failed = [r for r in rows if "failed" in r or r.get("agrees") is False]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
