"""Cosines and temperatures of pairs of test images, head by head."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax.data import images as sets
from contrastive_jax.tasks import images


class Pairs(NamedTuple):
    """Of every head: positives [heads, n], negatives [heads, n (n - 1)].

    Attributes:
      positive_cosine: of two views of an image.
      negative_cosine: of views of different images.
      positive_temperature: of the first pairs.
      negative_temperature: of the second.
    """

    positive_cosine: np.ndarray
    negative_cosine: np.ndarray
    positive_temperature: np.ndarray
    negative_temperature: np.ndarray


def measure(config, state, model, augments) -> Pairs:
    """Two random views of test images through a trained model."""
    data, rows = config.data, config.compared.rows
    place = dict(images.place(data), size=data.size, limit=rows)
    image, _ = next(sets.one_pass(data.name, data.test_split, batch_size=rows, **place))
    params, model_state = jax.device_get((state.params, state.model_state))

    @jax.jit
    def run(params, model_state, image):
        variables = {"params": params, "batch_stats": model_state}
        rng, step = jax.random.key(0), jnp.int32(0)
        a, b = images.two_views(augments, image, rng, step, None)
        (_, a), (_, b) = (model.apply(variables, x, train=False) for x in (a, b))
        cosines = jnp.einsum("ncd,mcd->cnm", a, b)
        return cosines, model.apply(variables, a, b, method="temperatures")

    cosines, temperatures = map(np.asarray, run(params, model_state, image))
    own = np.eye(len(image), dtype=bool)
    found = (x[:, mask] for x in (cosines, temperatures) for mask in (own, ~own))
    return Pairs(*found)
