"""Views, and inputs of the pretext tasks: images turned or cut up, on device."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, Key

from contrastive_jax import parallel, randomness
from contrastive_jax.data.augment import pretext
from contrastive_jax.tasks import images

TURNS = 4
PIECES = {"rotation": 1, "jigsaw": pretext.TILES}


class Puzzle(NamedTuple):
    """Transformed images.

    Attributes:
      pieces: an image, or its tiles, for each example.
      label: the transformation.
      rng: a key for each example, for dropout.
    """

    pieces: Float[Array, "m pieces h w c"]
    label: Integer[Array, " m"]
    rng: Key[Array, " m"]


def num_classes(loss) -> int:
    """Transformations that the pretext task tells apart."""
    return TURNS if loss.pretext == "rotation" else loss.permutations


def make_inputs(
    loss, augment: images.Augment
) -> Callable[..., tuple[Array, Puzzle | None]]:
    """What a step feeds to the model: two views of every image, and transformed ones.

    Args:
      loss: that section of a config. One in `loss.every` images has the pretext task,
        the same on any number of devices; none where `loss.pretext` is "".
      augment: how a view is drawn.

    Returns:
      `inputs(image, rng, step, axis_name)`; the arguments are those of
      `tasks.images.two_views`. All four turns of an image are there, each with a view
      of its own; tiles are those of one view, each as large as the view.
    """
    orders, turn = None, jax.vmap(pretext.rotate90, (0, None))
    if loss.pretext == "jigsaw":
        orders = jnp.asarray(pretext.jigsaw_permutations(loss.permutations))

    def inputs(image, rng, step, axis_name):
        n, side, width, _ = image.shape
        keys = parallel.example_keys(rng, step, n, axis_name)
        unit = images.to_unit(image)
        sources, rngs = [unit, unit], [randomness.fold_keys(keys, i) for i in (0, 1)]
        if loss.pretext:
            if side != width:
                raise ValueError(f"image: expected a square, got {side} x {width}")
            if n % loss.every:
                raise ValueError(
                    f"loss.every: {n} images of a device do not split by {loss.every}"
                )
            keys, unit = keys[:: loss.every], unit[:: loss.every]
            turns = range(1 if orders is not None else TURNS)
            sources += [turn(unit, k if loss.turn_first else 0) for k in turns]
            rngs += [randomness.fold_keys(keys, 2 + k) for k in turns]
        rng = jnp.concatenate(rngs)
        views = jax.vmap(augment)(rng, jnp.concatenate(sources))
        x, others, rng = views[: 2 * n], views[2 * n :], rng[2 * n :]
        if not loss.pretext:
            return x, None
        if orders is None:
            if not loss.turn_first:
                parts = enumerate(jnp.split(others, TURNS))
                others = jnp.concatenate([turn(part, k) for k, part in parts])
            label = jnp.repeat(jnp.arange(TURNS), len(keys))
            return x, Puzzle(others[:, None], label, rng)
        drawn = randomness.fold_keys(rng, 0)
        label = jax.vmap(lambda key: jax.random.randint(key, (), 0, len(orders)))(drawn)
        cut = functools.partial(pretext.jigsaw_tiles, size=side)
        return x, Puzzle(jax.vmap(cut)(others, orders[label]), label, rng)

    return inputs
