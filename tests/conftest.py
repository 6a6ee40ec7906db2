"""Settings and fixtures of the whole suite: 8 CPU devices, no silent broadcasting."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(params=["eager", "jit"])
def transform(request):
    """Runs a function as it is and jitted."""
    return jax.jit if request.param == "jit" else lambda f: f


@pytest.fixture
def x64():
    """Computes in float64 within one test."""
    with jax.enable_x64(True):
        yield
