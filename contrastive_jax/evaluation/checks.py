"""Arguments of measures on the host: numpy arrays in int64 and float64, checked.

Nothing goes through a device here, where numbers beyond 2^31 would not fit. Each
function refuses traced arrays (TypeError): what runs on the host cannot be jitted.
"""

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float64, Int64, Shaped
from threadpoolctl import threadpool_limits

Given = Shaped[Array | np.ndarray, "*shape"]
SMALL = 2**24  # numbers


def few_threads(x: np.ndarray) -> threadpool_limits:
    """A context in which scikit-learn takes one thread, unless the data are large.

    Threads of small products wait for each other longer than they compute; on a machine
    that other programs share, many times as long.
    """
    return threadpool_limits(1 if x.size < SMALL else None)


def on_host(x: Given, name: str) -> np.ndarray:
    """The input as a numpy array."""
    if isinstance(x, jax.core.Tracer):
        raise TypeError(
            f"{name}: expected numbers, got a traced array; this measure is computed "
            f"on the host and cannot be part of jit, vmap or grad"
        )
    return np.asarray(x)


def integers(x: Given, name: str) -> Int64[np.ndarray, "*shape"]:
    """The input as int64.

    Raises:
      TypeError: naming the argument, for anything but integers.
      ValueError: naming the argument, for numbers of 2^63 and more.
    """
    x = on_host(x, name)
    if not jnp.issubdtype(x.dtype, jnp.integer):
        raise TypeError(f"{name}: expected integers, got {x.dtype}{list(x.shape)}")
    if x.size and int(np.max(x)) > np.iinfo(np.int64).max:
        raise ValueError(f"{name}: expected integers below 2^63, got {np.max(x)}")
    return x.astype(np.int64)


def booleans(x: Given, name: str) -> Bool[np.ndarray, "*shape"]:
    """The input, which must hold booleans.

    Raises:
      TypeError: naming the argument, for anything else.
    """
    x = on_host(x, name)
    if x.dtype != np.bool_:
        raise TypeError(f"{name}: expected booleans, got {x.dtype}{list(x.shape)}")
    return x


def reals(x: Given, name: str, *, nan: bool = False) -> Float64[np.ndarray, "*shape"]:
    """Real numbers of any type as float64.

    Args:
      x: the argument.
      name: its name.
      nan: whether NaN is allowed.

    Raises:
      TypeError: naming the argument, for anything but real numbers.
      ValueError: naming the argument, for NaN, and for integers that float64 rounds.
    """
    x = on_host(x, name)
    if jnp.issubdtype(x.dtype, jnp.integer):
        least, most = (int(f(x)) if x.size else 0 for f in (np.min, np.max))
        if least < -(2**53) or most > 2**53:
            worst = least if least < -(2**53) else most
            raise ValueError(f"{name}: expected integers of at most 2^53, got {worst}")
    elif not jnp.issubdtype(x.dtype, jnp.floating) and x.dtype != np.bool_:
        raise TypeError(f"{name}: expected real numbers, got {x.dtype}{list(x.shape)}")
    x = x.astype(np.float64)
    if not nan and np.any(np.isnan(x)):
        raise ValueError(f"{name}: expected real numbers, got NaN")
    return x


def floats(x: Given, name: str) -> Float64[np.ndarray, "*shape"]:
    """Floating point of any width as float64, NaN allowed.

    Raises:
      TypeError: naming the argument, for anything but floating point.
    """
    x = on_host(x, name)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(
            f"{name}: expected floating point, got {x.dtype}{list(x.shape)}"
        )
    return x.astype(np.float64)


def features(x: Given, name: str) -> Float64[np.ndarray, "*shape"]:
    """Finite floating point of any width as float64.

    Raises:
      TypeError: naming the argument, for anything but floating point.
      ValueError: naming the argument, for NaN and infinities.
    """
    x = floats(x, name)
    if not np.all(np.isfinite(x)):
        raise ValueError(f"{name}: expected finite numbers, got NaN or infinities")
    return x


def scaled(
    x: Float64[np.ndarray, "..."], axis: int | None = None
) -> Float64[np.ndarray, "..."]:
    """Numbers of size 1 or less, divided by a power of two: no digit is lost.

    Their squares stay in the range of floats.
    """
    size = np.max(np.abs(x), axis=axis, keepdims=True)
    return np.ldexp(x, -np.frexp(size)[1])
