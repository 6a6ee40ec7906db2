"""What CLIP is trained on: pairs of a set, a vocabulary, random pictures and words."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from contrastive_jax.data import captions
from contrastive_jax.data.vocabulary import END, UNKNOWN, Vocabulary
from contrastive_jax.tasks import images
from contrastive_jax.training.config import Section


@functools.cache
def read_vocabulary(
    name: str, data_dir: str, features: tuple[str, ...], size: int, rows: int
) -> Vocabulary:
    """The vocabulary of a set's training captions, built once per process."""
    pairs = captions.open_pairs(name, "train", data_dir=data_dir, features=features)
    return captions.vocabulary(pairs, size, rows)


def open_split(data: Section, split: str) -> captions.Pairs:
    """A split of the set that the section `data` of a config names."""
    return captions.open_pairs(
        data["name"],
        split,
        data_dir=data["data_dir"],
        size=data["size"],
        features=data["features"],
    )


def open_vocabulary(data: Section) -> Vocabulary:
    """The vocabulary of the set that the section `data` of a config names."""
    return read_vocabulary(
        data["name"],
        data["data_dir"],
        tuple(data["features"]),
        data["vocabulary"],
        data["vocabulary_rows"],
    )


def one_picture(
    image: Array, keys: Array, augment: Callable[[Array, Array], Array]
) -> Float[Array, "n h w 3"]:
    """A random view of one random picture of every concept.

    Args:
      image: [n, v, h, w, 3] uint8.
      keys: one per concept.
      augment: random view of one image in [0, 1].
    """

    def one(key, pictures):
        which, how = jax.random.split(key)
        i = jax.random.randint(which, (), 0, pictures.shape[0])
        return augment(how, images.to_unit(pictures[i]))

    return jax.vmap(one)(keys, image)


def hide_words(
    tokens: Int[Array, "n t"], keys: Array, share: float
) -> Int[Array, "n t"]:
    """Every word becomes an unknown one with the probability `share`.

    So the token of unknown words, frequent in new captions, has been seen in training.
    """
    if not share:
        return tokens

    def one(key, row):
        gone = jax.random.bernoulli(key, share, row.shape)
        return jnp.where(gone & (row > END), UNKNOWN, row)

    return jax.vmap(one)(keys, tokens)
