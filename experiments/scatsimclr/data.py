"""Inputs of the pretext tasks: images turned or cut up, drawn on device."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, Key

from contrastive_jax import parallel
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


def rotations(key, image, augment) -> Puzzle:
    """A random view of the image after each of four turns."""
    if image.shape[0] != image.shape[1]:
        raise ValueError(
            f"image: expected a square to turn, got shape {list(image.shape)}"
        )
    rng = jax.random.split(key, TURNS)
    turned = jnp.stack([pretext.rotate90(image, k) for k in range(TURNS)])
    views = jax.vmap(augment)(rng, turned)
    return Puzzle(views[:, None], jnp.arange(TURNS), rng)


def jigsaw(key, image, augment, permutations) -> Puzzle:
    """The tiles of a random view in a random order, as large as the view."""
    view_rng, order_rng = jax.random.split(key)
    view = augment(view_rng, image)
    label = jax.random.randint(order_rng, (1,), 0, len(permutations))
    order = jnp.asarray(permutations)[label[0]]
    tiles = pretext.jigsaw_tiles(view, order, size=len(view))
    return Puzzle(tiles[None], label, order_rng[None])


def make_puzzles(loss, augment: images.Augment) -> Callable[..., Puzzle]:
    """`puzzles(image, rng, step, axis_name)` of the task that a section `loss` names.

    One in `loss.every` images is taken, the same on any number of devices.
    """
    permutations = None
    if loss.pretext == "jigsaw":
        permutations = pretext.jigsaw_permutations(loss.permutations)

    def one(key, image):
        if permutations is None:
            return rotations(key, image, augment)
        return jigsaw(key, image, augment, permutations)

    def puzzles(image, rng, step, axis_name):
        if len(image) % loss.every:
            raise ValueError(
                f"loss.every: {len(image)} images of a device do not split by "
                f"{loss.every}"
            )
        keys = parallel.example_keys(rng, step, len(image), axis_name)
        keys = jax.vmap(lambda key: jax.random.fold_in(key, 2))(keys[:: loss.every])
        drawn = jax.vmap(one)(keys, images.to_unit(image[:: loss.every]))
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), drawn)

    return puzzles
