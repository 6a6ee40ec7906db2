"""Retrieval between pictures and captions of unseen concepts."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from contrastive_jax.data.captions import Pairs
from contrastive_jax.data.vocabulary import Vocabulary
from contrastive_jax.evaluation import ranking
from contrastive_jax.models.towers import TwoTowers
from contrastive_jax.tasks import images


class Concepts(NamedTuple):
    """Pictures and captions of a split, with their embeddings.

    Attributes:
      image: [n, v, h, w, 3] uint8.
      caption: n strings.
      image_embedding: [n, v, d].
      text_embedding: [n, d].
    """

    image: np.ndarray
    caption: list[str]
    image_embedding: np.ndarray
    text_embedding: np.ndarray


def embed(
    model: TwoTowers,
    params: Any,
    pairs: Pairs,
    vocabulary: Vocabulary,
    tokens: int,
    *,
    limit: int = 0,
) -> Concepts:
    """Embeddings of a split, or of its first `limit` rows, batch by batch."""
    total = min(limit, pairs.total) if limit else pairs.total
    variables = {"params": jax.device_get(params)}

    @jax.jit
    def both(variables, image, row):
        v = image.shape[1]
        flat = images.to_unit(image.reshape(-1, *image.shape[2:]))
        found = model.apply(variables, flat, method="encode_image")
        captions = model.apply(variables, row, method="encode_text")
        return found.reshape(-1, v, found.shape[-1]), captions

    kept, batch = [], 200
    for start in range(0, total, batch):
        rows = np.arange(start, min(start + batch, total))
        padded = np.resize(rows, batch)  # one shape, one compilation
        image, caption = pairs.image(padded), pairs.caption(padded)
        found = both(variables, image, vocabulary.encode(caption, tokens))
        kept.append([x[: len(rows)] for x in (image, caption, *map(np.asarray, found))])
    image, caption, *embeddings = zip(*kept, strict=True)
    return Concepts(
        np.concatenate(image),
        [one for part in caption for one in part],
        *map(np.concatenate, embeddings),
    )


def ranks(concepts: Concepts) -> dict[str, np.ndarray]:
    """Rank of the right answer: of captions for images, of images for captions.

    Every picture of a concept is a query; a caption is a query once per kind of
    picture, among the pictures of that kind.
    """
    n, v, _ = concepts.image_embedding.shape
    gold = np.arange(n)
    captions = concepts.text_embedding
    found = {"image_to_text": [], "text_to_image": []}
    for i in range(v):
        pictures = concepts.image_embedding[:, i]
        found["image_to_text"].append(ranking.gold_ranks(pictures, captions, gold))
        found["text_to_image"].append(ranking.gold_ranks(captions, pictures, gold))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def scores(concepts: Concepts) -> dict[str, float]:
    """Recall at 1 and 5 (%) and mean reciprocal rank (%) in both directions."""
    found = {}
    for name, rank in ranks(concepts).items():
        found[f"{name}/recall_1"] = 100 * float(np.mean(rank <= 1))
        found[f"{name}/recall_5"] = 100 * float(np.mean(rank <= 5))
        found[f"{name}/mrr"] = 100 * float(np.mean(1 / rank))
    return found


def scores_of_each(concepts: Mapping[str, Concepts]) -> dict[str, float]:
    """`scores` of several models, as "model/direction/measure"."""
    return {
        f"{name}/{key}": value
        for name, embedded in concepts.items()
        for key, value in scores(embedded).items()
    }
