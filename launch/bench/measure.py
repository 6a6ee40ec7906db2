"""Measuring in a process of its own: time, memory, machine and versions."""

import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import resource
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
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
LIBRARIES = (
    "jax",
    "optax",
    "torch",
    "open_clip_torch",
    "sentence-transformers",
    "pytorch-metric-learning",
    "tokamax",
)
# Methods of these libraries are measured in PyTorch.
TORCH = ("torch", "open_clip", "sentence_transformers", "pytorch_metric_learning")


def run_peer(script: str, argument: str) -> dict:
    """What a script beside this file prints last, as JSON.

    It is run by the interpreter that BENCH_PEER names, which has the peer's libraries;
    models and data sets are not looked for in the network.

    Raises:
      RuntimeError: it failed; with the last line of what it says.
    """
    program = str(pathlib.Path(__file__).with_name(script))
    done = subprocess.run(
        [os.environ["BENCH_PEER"], program, argument],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return json.loads(done.stdout.splitlines()[-1])


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
    if library in ("transformers", "kymatio", "sbert"):
        return "BENCH_PEER" in os.environ
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


def size(row: dict) -> tuple:
    """What must be equal for two methods to be compared."""
    return row["task"], row["rows"], row["width"]
