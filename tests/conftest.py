"""Settings and fixtures of the whole suite: 8 CPU devices, no silent broadcasting."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jaxtyping
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
CACHE = os.environ.get("CONTRASTIVE_JAX_CACHE", "~/.cache/contrastive_jax")
# The runs of experiments compile once for launch/test and launch/test --experiments.
jax.config.update("jax_compilation_cache_dir", os.path.expanduser(f"{CACHE}/xla"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.fixture(params=["eager", "jit"])
def transform(request):
    """Runs a function as it is and jitted."""
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
