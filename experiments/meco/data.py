"""What MECO is run on: points or images as points, and the noise fitted to them.

Images become points by adding uniform noise within their grey levels (so that they have
a density) and scaling to [-2, 2]. The noise is a mixture of Gaussians fitted to the
training points, or a plain Gaussian; both are sampled and evaluated exactly.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Shaped

from contrastive_jax import numerics
from contrastive_jax.data import array_batches, images, synthetic

SHAPES = {"digits": (8, 8, 1), "cifar10": (32, 32, 3)}
LEVELS = {"digits": 17, "cifar10": 256}
HALF_WIDTH = 4.0  # of the square that holds the densities in the plane
SPAN = 4.0  # width of the interval that grey values are scaled to


class Split(NamedTuple):
    """Rows to learn from, rows to report on, and rows from elsewhere by name."""

    train: np.ndarray
    test: np.ndarray
    outside: dict[str, np.ndarray]


def check_names(config) -> None:
    """Raises ValueError unless all sets of a config are known; they name folders."""
    known = (*synthetic.PLANE, *SHAPES)
    for name in (config.data.name, *config.data.sets):
        if name not in known:
            raise ValueError(
                f"data.name, data.sets: expected some of {', '.join(known)}, got "
                f"{name!r}"
            )


def shape_of(name: str) -> tuple[int, ...]:
    """Shape of one point."""
    return SHAPES.get(name, (2,))


@functools.cache
def load(name: str, held_out: bool, data_dir: str = "") -> Split:
    """A set in memory; `held_out` reports on a quarter of the training rows instead.

    Out-of-distribution images for digits: clothes and digits of another source
    (Fashion-MNIST and MNIST) at the same size; for a set in `data_dir`: SVHN.
    """
    if name in synthetic.PLANE:
        train = synthetic.plane_points(name, 4000, seed=0)
        test, outside = synthetic.plane_points(name, 4000, seed=1), {}
    elif data_dir:
        found = images.load(name, data_dir)
        train, test = found.train_image, found.test_image
        outside = {"svhn": images.load("svhn_cropped", data_dir).test_image}
    else:
        found = images.load(name)
        train, test = found.train_image, found.test_image
        outside = {
            other: to_levels(shrink(images.load(other).test_image[:1000]), name)
            for other in ("fashion", "mnist5k")
        }
    if held_out:
        kept = 3 * len(train) // 4
        train, test = train[:kept], train[kept:]
    return Split(train, test, outside)


def shrink(image: np.ndarray) -> np.ndarray:
    """[n, 28, 28, 1] to [n, 8, 8, 1]: means of 3 x 3 pixels within the border."""
    inner = image[:, 2:26, 2:26]
    return inner.reshape(len(image), 8, 3, 8, 3, 1).mean(axis=(2, 4))


def to_levels(image: np.ndarray, name: str) -> np.ndarray:
    """Grey values rounded to the levels that the images of a set have."""
    top = LEVELS[name] - 1
    return np.round(np.round(image * (top / 255)) * (255 / top)).astype(np.uint8)


def to_points(
    x: Shaped[Array, "n ..."], name: str, keys: Key[Array, " n"] | None
) -> Float[Array, "n ..."]:
    """Rows of a set as points of a density; without keys in the middle of the level."""
    if not jnp.issubdtype(x.dtype, jnp.integer):
        return x
    levels = LEVELS[name]
    whole = jnp.round(x.astype(jnp.float32) * ((levels - 1) / 255))
    inside = 0.5
    if keys is not None:
        inside = jax.vmap(lambda key: jax.random.uniform(key, x.shape[1:]))(keys)
    return SPAN * ((whole + inside) / levels - 0.5)


def to_image(x: Float[Array | np.ndarray, "n ..."]) -> Float[np.ndarray, "n ..."]:
    """Points as images in [0, 1]."""
    return np.clip(np.asarray(x) / SPAN + 0.5, 0, 1)


class Noise(NamedTuple):
    """A mixture of k Gaussians.

    Attributes:
      log_weights: log of the shares.
      means: centres.
      factors: Cholesky factors of the covariances.
      shape: shape of a point.
    """

    log_weights: Float[np.ndarray, " k"]
    means: Float[np.ndarray, "k d"]
    factors: Float[np.ndarray, "k d d"]
    shape: tuple[int, ...]

    def sample(self, keys: Key[Array, " n"]) -> Float[Array, "n ..."]:
        """One point per key."""

        def one(key):
            which, where = jax.random.split(key)
            k = jax.random.categorical(which, jnp.asarray(self.log_weights))
            normal = jax.random.normal(where, self.means.shape[1:])
            return k, normal

        k, normal = jax.vmap(one)(keys)
        x = jnp.einsum("nij,nj->ni", jnp.asarray(self.factors)[k], normal)
        return (x + jnp.asarray(self.means)[k]).reshape(-1, *self.shape)

    def log_density(self, x: Float[Array, "n ..."]) -> Float[Array, " n"]:
        """Log-density of points."""
        flat = x.reshape(len(x), -1)
        parts = []
        for log_weight, mean, factor in zip(
            self.log_weights, self.means, self.factors, strict=True
        ):
            y = (flat - mean[None, :]) @ np.linalg.inv(factor).T
            volume = np.sum(np.log(np.diag(factor))) + len(mean) * np.log(2 * np.pi) / 2
            parts.append(log_weight - volume - jnp.sum(y * y, axis=1) / 2)
        return jax.nn.logsumexp(jnp.stack(parts), axis=0)


class White(NamedTuple):
    """N(0, std^2 I), for sets whose rows are not looked at."""

    std: float
    shape: tuple[int, ...]

    def sample(self, keys: Key[Array, " n"]) -> Float[Array, "n ..."]:
        """One point per key."""
        draw = functools.partial(jax.random.normal, shape=self.shape)
        return self.std * jax.vmap(draw)(keys)

    def log_density(self, x: Float[Array, "n ..."]) -> Float[Array, " n"]:
        """Log-density of points."""
        flat = x.reshape(len(x), -1) / self.std
        constant = flat.shape[1] * np.log(self.std * np.sqrt(2 * np.pi))
        return -jnp.sum(flat * flat, axis=1) / 2 - constant


@functools.cache
def fit_noise(
    name: str, held_out: bool, components: int, inflate: float
) -> Noise | White:
    """A mixture fitted to the training points, its covariances times `inflate`.

    Noise has to be wider than the data. With 0 components it is N(0, inflate I).
    """
    if components == 0:
        return White(float(np.sqrt(inflate)), shape_of(name))
    from sklearn.mixture import GaussianMixture

    rows = load(name, held_out).train
    keys = jax.random.split(jax.random.key(0), len(rows))
    points = np.asarray(to_points(jnp.asarray(rows), name, keys), np.float64)
    fitted = GaussianMixture(components, reg_covar=1e-2, random_state=0)
    fitted.fit(points.reshape(len(points), -1))
    arrays = (
        np.log(fitted.weights_),
        fitted.means_,
        np.linalg.cholesky(inflate * fitted.covariances_),
    )
    return Noise(*(x.astype(np.float32) for x in arrays), shape_of(name))


def make_noise(config) -> Noise | White:
    """The noise of the set that `config.data.name` names."""
    size, inflate = config.noise.components, config.noise.inflate
    if len(shape_of(config.data.name)) > 1:
        size, inflate = config.noise.image_components, config.noise.image_inflate
    return fit_noise(config.data.name, config.eval.held_out, size, inflate)


def batches(config, start_step: int):
    """Endless batches of x, points [n, 2] or uint8 images [n, h, w, c]."""
    check_names(config)
    order = dict(
        batch_size=config.data.batch_size, seed=config.seed, start_step=start_step
    )
    if config.data.data_dir:
        source = images.batches(
            config.data.name, data_dir=config.data.data_dir, **order
        )
        return ({"x": batch["image"]} for batch in source)
    rows = load(config.data.name, config.eval.held_out).train
    return array_batches({"x": rows}, **order)


def square_grid(cells: int, half_width: float) -> tuple[Float[Array, "k 2"], float]:
    """Midpoint rule on a square around the origin: points, and the area of a cell.

        integral of p over the square ~ area sum_k p(x_k)

    Rows go from low to high in the second coordinate, then in the first, as an image
    with its origin below shows them.

    Args:
      cells: cells per side.
      half_width: half the side of the whole, > 0.

    Raises:
      ValueError: a number not above 0.

    Examples:
      >>> points, area = square_grid(2, 1.0)
      >>> points.tolist(), area
      ([[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]], 1.0)
    """
    numerics.check_positive(cells=cells, half_width=half_width)
    side = 2 * half_width / cells
    centers = (jnp.arange(cells) + 0.5) * side - half_width
    x, y = jnp.meshgrid(centers, centers)
    return jnp.stack([x.ravel(), y.ravel()], axis=1), side**2
