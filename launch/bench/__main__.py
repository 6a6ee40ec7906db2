"""Ours beside its peers: time, memory and agreement, in one call, on one thread.

    python -m launch.bench losses --sizes 1024 4096 8192
    python -m launch.bench distances
    python -m launch.bench decode --peer ENVIRONMENT/bin/python
    python -m launch.bench encode --peer ENVIRONMENT/bin/python
    python -m launch.bench scattering --peer ENVIRONMENT/bin/python
    python -m launch.bench tokens
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

`tokens` takes the gradient by hidden states and head of a language model; rows are
tokens. `decode` has SmolLM2 decode 20 prompts; rows are those of a batch, the width is
the number of new tokens, and times are those of a batch. Its peer is transformers
4.46.3, by the interpreter after --peer, since it needs other versions than ours of what
both use; `same_as_ours` counts equal texts. `encode` embeds as many texts as rows, of
at most `width` tokens, by all-MiniLM-L6-v2, tokenizing included; its peer is sentence-
transformers, by the interpreter after --peer. `scattering` is of as many random images
as rows, width their side, beside kymatio 0.3.0 by the interpreter after --peer. `ring`
and `largest` only compile: scratch per device of a program for 8 devices, and the most
pairs whose scratch and gradients fit into 1 GiB. `compile` starts twice with one
persistent cache. `accuracy` compares a saturated batch with float64. `tables` measures
nothing and prints what is saved as Markdown.
"""

import argparse
import json
import os
import pathlib
import sys
import tempfile

from launch.bench import (
    decode,
    devices,
    encode,
    losses,
    measure,
    scattering,
    tables,
    tokens,
)


def cases(bench: str, args: argparse.Namespace) -> list[list]:
    """[task, method, rows, width] of everything a bench measures."""
    if bench in ("losses", "distances"):
        of_losses = bench == "losses"
        width = args.width or (256 if of_losses else 512)
        usual = [1024, 4096] if of_losses else [512, 1024, 2048, 4096]
        return [
            [task, method, rows, width]
            for task, methods in (
                losses.LOSSES if of_losses else losses.DISTANCES
            ).items()
            if not args.tasks or task in args.tasks
            for rows in args.sizes or usual
            for method in methods
            if rows <= args.stretch * losses.largest(task, method)
        ]
    if bench in ("tokens", "decode", "encode", "scattering"):
        module, usual = {
            "tokens": (tokens, ([1024, 4096], 576)),
            "decode": (decode, ([1, 8], 48)),
            "encode": (encode, ([500], 256)),
            "scattering": (scattering, ([48], 32)),
        }[bench]
        return [
            [task, method, rows, args.width or usual[1]]
            for task, methods in module.TASKS.items()
            if not args.tasks or task in args.tasks
            for rows in args.sizes or usual[0]
            for method in methods
        ]
    if bench == "grad_cache":
        methods = ["whole", "checkpoint", "chunk/16", "chunk/64", "chunk/256"]
        sizes = args.sizes or [512]
        return [["clip", m, rows, 128] for rows in sizes for m in methods]
    tasks, width = args.tasks or ["clip", "nt_xent"], args.width or 256
    if bench == "accuracy":
        methods = ["ours/tiled", "jax/plain", "jax/naive"]
        return [["clip", m, n, width] for n in args.sizes or [2048] for m in methods]
    if bench == "largest":
        return [
            [task, method, 0, width]
            for task in tasks
            for method in losses.LOSSES[task]
            if method.partition("/")[0] not in measure.TORCH
        ]
    if bench == "ring":
        sizes, methods, width = args.sizes or [8192, 131072], ["ring", "plain"], 512
    else:
        sizes = args.sizes or [8192]
        methods = ["tiled", "general", "plain"]
        towers = [["clip", "towers", 256, 128]] if "clip" in tasks else []
        return [
            [t, m, n, width] for t in tasks for n in sizes for m in methods
        ] + towers
    return [[t, m, rows, width] for t in tasks for rows in sizes for m in methods]


MEASURE = {
    "losses": losses.measure_loss,
    "distances": losses.measure_loss,
    "tokens": tokens.measure_tokens,
    "decode": decode.measure_decode,
    "encode": encode.measure_encode,
    "scattering": scattering.measure_scattering,
    "grad_cache": devices.measure_grad_cache,
    "ring": devices.measure_ring,
    "compile": devices.measure_compile,
    "accuracy": losses.measure_accuracy,
    "largest": losses.measure_largest,
}


def main(argv: list[str] | None = None) -> int:
    """Runs one bench; 1 when results disagree."""
    parser = argparse.ArgumentParser(
        prog="python -m launch.bench", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("bench", choices=[*MEASURE, "tables"])
    parser.add_argument("--sizes", type=int, nargs="+", help="rows")
    parser.add_argument("--tasks", nargs="+", help="some of the tasks only")
    parser.add_argument("--width", type=int, help="embedding width (256 or 512)")
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
    parser.add_argument("--peer", help="interpreter that has the peer")
    parser.add_argument("--runs", type=pathlib.Path, default=measure.ROOT / "runs")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.case:
        if args.core is not None:
            os.sched_setaffinity(0, {args.core})
        sys.argv = sys.argv[:1]  # some libraries read the command line themselves
        print(json.dumps(MEASURE[args.bench](*args.case)))
        return 0
    if args.bench == "tables":
        tables.tables(args.runs, MEASURE)
        return 0
    if args.peer:
        os.environ["BENCH_PEER"] = args.peer
    args.runs.mkdir(parents=True, exist_ok=True)
    file = args.runs / f"bench_{args.bench}.json"
    best, skipped = {}, set()
    print(" ".join(f"{k} {v}" for k, v in measure.versions().items()))
    chosen = cases(args.bench, args) * args.rounds
    with tempfile.TemporaryDirectory() as cache:
        for number, case in enumerate(chosen):
            task, method, rows, width = case
            if args.methods and method not in args.methods:
                continue
            if not measure.installed(method):
                skipped.add(method)
                continue
            env = measure.ONE_THREAD | {"BENCH_CACHE": f"{cache}/{number}"}
            for start in ("first", "second") if args.bench == "compile" else ("",):
                result = measure.child(args.bench, case, env, args.core)
                name = f"{method} {start}".strip()
                if isinstance(result, str):
                    print(f"{task} {rows} {name}: no result: {result}")
                    continue
                row = dict(task=task, method=name, rows=rows, width=width, **result)
                print(json.dumps(row), flush=True)
                key = (*measure.size(row), name)
                best[key] = tables.better(best.get(key), row)
                results = tables.save(file, best[key])
    fresh = list(best.values())
    for method in sorted(skipped):
        print(f"{method}: not installed, left out (extra `bench`, or --peer)")
    tables.show(fresh)
    if not fresh:
        return 1
    print(f"saved {file}")
    if args.bench == "losses":
        tables.plot(results, file.with_suffix(".png"))
    problems = tables.check_agreement(fresh)
    print("\n".join(problems) or "losses and gradients agree")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
