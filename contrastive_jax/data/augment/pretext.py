"""Pretext tasks on images: turned by quarters, or cut into tiles and shuffled.

What was done to an image is its label, so that no one has to label it: `rotate90` with
k, `jigsaw_tiles` with one of the permutations of `jigsaw_permutations`. Functions of
one image, meant to be vmapped.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Integer, Shaped

SIDE = 3  # tiles along an edge
TILES = SIDE**2


def rotate90(image: Shaped[Array, "h w c"], k: int) -> Shaped[Array, "h2 w2 c"]:
    """The image turned clockwise by k times 90 degrees.

    References:
      Gidaris et al. 2018, arXiv:1803.07728, section 3.1.

    Examples:
      >>> print(rotate90(jnp.array([[1, 2], [3, 4]])[..., None], 1)[..., 0])
      [[3 1]
       [4 2]]
    """
    return jnp.rot90(image, -k)


def jigsaw_boxes(size: int) -> np.ndarray:
    """Left, top, right and bottom of the tiles of a square image, row by row, [9, 4].

    Args:
      size: side of the image in pixels, at least 3.

    Raises:
      ValueError: a side below 3.

    References:
      Kinakh et al. 2021, arXiv:2108.13939, the released code, whose rounding it keeps:
      where 3 does not divide the size, rows between tiles are in none of them, and a
      sum of floating-point numbers just below the side leaves out the last row.

    Examples:
      >>> jigsaw_boxes(32)[8].tolist()
      [22, 22, 31, 31]
    """
    if size < SIDE:
        raise ValueError(f"size: expected at least {SIDE}, got {size}")
    half = size / SIDE / 2
    centers = [half * i * 2 + half for i in range(SIDE)]
    edges = [(math.ceil(c - half), int(c + half)) for c in centers]
    return np.array([[x[0], y[0], x[1], y[1]] for y in edges for x in edges])


def jigsaw_tiles(
    image: Shaped[Array, "side side c"],
    permutation: Integer[Array, " 9"],
    *,
    size: int | None = None,
) -> Shaped[Array, "9 h w c"]:
    """The tiles of a square image in another order: tile i is number permutation[i].

    Args:
      image: the image.
      permutation: of 0 to 8.
      size: side that the tiles are resized to (linear, antialiased; floating point
        only). None keeps theirs, of which there must be one.

    Raises:
      ValueError: another shape, or tiles of different sizes and no `size`.

    References:
      Noroozi and Favaro 2016, arXiv:1603.09246, section 3.
    """
    if image.ndim != 3 or image.shape[0] != image.shape[1]:
        raise ValueError(
            f"image: expected [side, side, c], got shape {list(image.shape)}"
        )
    boxes = jigsaw_boxes(image.shape[0])
    tiles = [image[y:y2, x:x2] for x, y, x2, y2 in boxes.tolist()]
    if size is not None:
        shape = (size, size, image.shape[-1])
        tiles = [jax.image.resize(tile, shape, "linear") for tile in tiles]
    elif len({tile.shape for tile in tiles}) > 1:
        raise ValueError(
            f"size: a side of {image.shape[0]} gives tiles of different sizes; name "
            "the one to resize them to"
        )
    return jnp.stack(tiles)[permutation]


@functools.cache
def jigsaw_permutations(count: int, *, seed: int = 0) -> np.ndarray:
    """Permutations of the 9 tiles that differ much from each other, [count, 9].

    Each next one has the largest mean Hamming distance from those before.

    Args:
      count: how many; 35 in the paper.
      seed: of the first one.

    Raises:
      ValueError: fewer than 2, or more than 1,000.

    References:
      Noroozi and Favaro 2016, arXiv:1603.09246, algorithm 1.
    """
    if not 2 <= count <= 1000:
        raise ValueError(f"count: expected 2 to 1000, got {count}")
    every = np.array(list(itertools.permutations(range(TILES))), np.int8)
    distance = np.zeros(len(every), np.int32)
    chosen = [int(np.random.default_rng(seed).integers(len(every)))]
    while len(chosen) < count:
        distance += (every != every[chosen[-1]]).sum(axis=1, dtype=np.int32)
        distance[chosen[-1]] = -TILES * count  # never again
        chosen.append(int(distance.argmax()))
    return every[chosen].astype(np.int32)
