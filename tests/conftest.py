"""Settings of the whole suite: 8 CPU devices, no silent broadcasting, quick compiling.

Nearly all of the time of the suite is compiling, so programs are compiled with less
optimization than elsewhere and are kept on disk, for the other worker and the next
session; with an empty variable XLA_FLAGS they are compiled as in any run. All are
written in one MLIR context. A worker drops its programs when they take up too much
memory.

The units of work are groups (`group_of`). `--experiment NAME` selects what concerns one
experiment.
"""

import ctypes
import functools
import gc
import os
import pathlib
import resource
import sys

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Threads of small matrix products wait for each other longer than they compute.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import jax
import jaxtyping
import pytest
from jax._src import compilation_cache, compiler
from jax._src.interpreters import mlir

QUICK = [
    "--xla_backend_optimization_level=0",
    "--xla_cpu_parallel_codegen_split_count=1",
]
if jax.__version_info__ < (0, 11):  # later versions do not know it
    QUICK.append("--xla_cpu_use_fusion_emitters=false")
if os.environ["JAX_PLATFORMS"] == "cpu":
    # Read when the first program is compiled; processes that tests start inherit it.
    os.environ.setdefault("XLA_FLAGS", " ".join(QUICK))
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
CACHE = os.environ.get("CONTRASTIVE_JAX_CACHE", "~/.cache/contrastive_jax")
jax.config.update("jax_compilation_cache_dir", os.path.expanduser(f"{CACHE}/xla"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

# XLA runs the collectives of a program for CPUs that it read from a cache in any order,
# so that they get each other's numbers: programs of several devices are not kept.
compile_or_get_cached = compiler.compile_or_get_cached


@functools.wraps(compile_or_get_cached)
def compile_anew(backend, computation, devices, *args, **kwargs):
    """The program, from the cache if it is for one device."""
    with pytest.MonkeyPatch.context() as patch:
        if devices.size > 1:
            patch.setattr(compilation_cache, "is_cache_used", lambda backend: False)
        return compile_or_get_cached(backend, computation, devices, *args, **kwargs)


compiler.compile_or_get_cached = compile_anew

# A context of its own for every program takes 5 ms and stays with it, at 1 MB. The
# function is internal: where it is not found, tests take longer and nothing else.
if hasattr(mlir, "make_ir_context"):
    mlir.make_ir_context = functools.cache(mlir.make_ir_context)

ROOT = pathlib.Path(__file__).parent.parent
EXPERIMENTS = {path.parent.name for path in ROOT.glob("experiments/*/experiment.py")}
# Resident memory of a process, in bytes, beyond which compiled programs are dropped.
LIMIT = 1.6 * 2**30
PEAKS = pytest.StashKey[dict]()


def pytest_addoption(parser):
    parser.addoption(
        "--experiment", choices=sorted(EXPERIMENTS), help="what concerns one experiment"
    )


# Which worker runs what.


def words_of(item):
    """The parts of the values that a test is parametrized by: {"clip", "pmap"}."""
    callspec = getattr(item, "callspec", None)
    return callspec.id.split("-") if callspec else []


def module_of(item):
    """The module that defines the case of a test of the contract of all losses."""
    groups = sys.modules[item.module.__name__].GROUPS
    name = item.callspec.params["name"] if hasattr(item, "callspec") else None
    return "".join(group for group, names in groups.items() if name in names)


def experiment_of(item):
    """The experiment that a test concerns, and its case ("edlm:smoke:nce"); or None."""
    folder, stem = item.path.parent.name, item.path.stem
    if stem == "test_contract":
        # Of the losses of a method, whose cases stand in the tests of the method.
        folder, stem = ["", "", *module_of(item).split(".")][-2:]
    if folder in ("experiments", "methods"):
        stem = stem.removeprefix("test_")
        names = [n for n in EXPERIMENTS if stem == n or stem.startswith(f"{n}_")]
        if names:
            return max(names, key=len), ""
    if folder == "experiments" or item.path.stem == "test_golden":
        for word in words_of(item):
            name = word.split(":")[0]
            if name in EXPERIMENTS:
                return name, word
    return None


def group_of(item):
    """Tests with the same group run in one process and share what they compile.

    A group is a file, except for files that take long: the contract of the losses is
    split by the modules that define the cases (each is compiled as a whole), the tests
    of every experiment by experiment and case.
    """
    path = item.path.relative_to(ROOT).as_posix()
    if item.path.stem == "test_contract":
        return f"{path}:{module_of(item)}"
    if item.path.stem in ("test_golden", "test_fuzz", "test_devices"):
        return ":".join([path, *words_of(item)[:2]])
    concerns = experiment_of(item)
    return f"{path}:{concerns[1]}" if concerns and concerns[1] else path


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Selects, names the groups, and puts those that take long first."""
    name = config.getoption("--experiment")
    if name:
        chosen = [
            (experiment_of(item) or ("",))[0] == name or item.path.stem == "test_house"
            for item in items
        ]
        others = [item for item, c in zip(items, chosen, strict=True) if not c]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item, c in zip(items, chosen, strict=True) if c]
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group_of(item)))
    first = ["experiments", "parallel", "losses", "ebm", "evaluation"]
    folders = {folder: i for i, folder in enumerate(first)}
    items.sort(key=lambda item: folders.get(item.path.parent.name, len(first)))


# Memory.


def resident():
    """Resident memory of this process in bytes; 0 where that cannot be read."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        return 0


def drop_programs():
    """Frees all compiled programs."""
    jax.clear_caches()
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item, nextitem):
    try:
        return (yield)
    finally:
        if resident() > LIMIT:
            drop_programs()


def usage():
    """What this process took so far."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    return f"{own.ru_maxrss / 2**20:.1f} GB, {own.ru_utime + own.ru_stime:.0f} CPU s"


def pytest_sessionfinish(session):
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["usage"] = usage()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    peaks = node.config.stash.setdefault(PEAKS, {})
    peaks[node.gateway.id] = getattr(node, "workeroutput", {}).get("usage", "unknown")


def pytest_terminal_summary(terminalreporter, config):
    peaks = config.stash.get(PEAKS, {"this process": usage()})
    for name, peak in sorted(peaks.items()):
        terminalreporter.write_line(f"peak memory and time of {name}: {peak}")


# Fixtures.


@pytest.fixture(params=[pytest.param("eager", marks=pytest.mark.experiments), "jit"])
def transform(request):
    """Runs a function jitted and, with --experiments, as it is: each step compiles."""
    return jax.jit if request.param == "jit" else lambda f: f


@pytest.fixture
def x64():
    """Computes in float64 within one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def without_type_hooks():
    """The library's own messages: the hooks of the test run would speak first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
