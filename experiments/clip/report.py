"""What image-text experiments share: two towers, evaluation across pictures, report."""

import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int
from matplotlib.figure import Figure

from contrastive_jax import models, similarity
from contrastive_jax.data import image_text, text
from contrastive_jax.evaluation import figures, retrieval
from contrastive_jax.training import images, metrics, report
from contrastive_jax.training.config import Section


class TwoTowers(nn.Module):
    """An image and a text encoder, each with a linear map into one space.

    Attributes:
      image: images [n, h, w, c] in [0, 1] to features.
      text: tokens [n, t] to features.
      dim: size of the shared embeddings, which have norm 1.
    """

    image: nn.Module
    text: nn.Module
    dim: int

    def setup(self):
        self.image_map = nn.Dense(self.dim, use_bias=False)
        self.text_map = nn.Dense(self.dim, use_bias=False)

    def __call__(
        self, image: Float[Array, "n h w c"], tokens: Int[Array, "n t"]
    ) -> tuple[Float[Array, "n dim"], Float[Array, "n dim"]]:
        return self.encode_image(image), self.encode_text(tokens)

    def encode_image(self, image: Float[Array, "n h w c"]) -> Float[Array, "n dim"]:
        """Embeddings of images."""
        return similarity.l2_normalize(self.image_map(self.image(image, train=True)))

    def encode_text(self, tokens: Int[Array, "n t"]) -> Float[Array, "n dim"]:
        """Embeddings of captions."""
        return similarity.l2_normalize(self.text_map(self.text(tokens, train=True)))


def make_towers(
    image: Mapping[str, Any],
    text: Mapping[str, Any],
    *,
    dim: int,
    vocabulary: int,
    dtype: DTypeLike,
) -> TwoTowers:
    """The towers that the section `model` of a config describes.

    Args:
      image: kind ("resnet" with `block` for its kind of block, or "vit") and the
        fields of that model.
      text: fields of `models.TextTower`.
      dim: size of the embeddings.
      vocabulary: numbers of tokens.
      dtype: compute type.

    Raises:
      ValueError: an unknown kind, or a normalisation over the batch.
    """
    settings = dict(image)
    kind = settings.pop("kind")
    if kind == "vit":
        tower = models.Vit(**settings, dtype=dtype)
    elif kind == "resnet":
        if settings["norm"] == "batch":
            raise ValueError(
                "model.image.norm: batch normalisation ties an embedding to the other "
                "rows of its batch; set it to group"
            )
        tower = models.Resnet(kind=settings.pop("block"), **settings, dtype=dtype)
    else:
        raise ValueError(f"model.image.kind: expected resnet or vit, got {kind!r}")
    captions = models.TextTower(vocabulary, **text, dtype=dtype)
    return TwoTowers(tower, captions, dim)


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
    pairs: image_text.Pairs,
    vocabulary: text.Vocabulary,
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
        found["image_to_text"].append(retrieval.gold_ranks(pictures, captions, gold))
        found["text_to_image"].append(retrieval.gold_ranks(captions, pictures, gold))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def scores(concepts: Concepts) -> dict[str, float]:
    """Recall at 1 and 5 (%) and mean reciprocal rank (%) in both directions."""
    found = {}
    for name, rank in ranks(concepts).items():
        found[f"{name}/recall_1"] = 100 * float(np.mean(rank <= 1))
        found[f"{name}/recall_5"] = 100 * float(np.mean(rank <= 5))
        found[f"{name}/mrr"] = 100 * float(np.mean(1 / rank))
    return found


def recall_curves(found: Mapping[str, Concepts]) -> Figure:
    """Recall against the number of answers looked at, one line per model."""
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    panels = figure.subplots(1, 2)
    total = len(next(iter(found.values())).caption)
    k = np.unique(np.geomspace(1, total, 60).astype(int))
    for axes, direction in zip(panels, ("image_to_text", "text_to_image"), strict=True):
        for name, concepts in found.items():
            rank = ranks(concepts)[direction]
            axes.plot(k, [100 * np.mean(rank <= x) for x in k], label=name)
        axes.plot(k, 100 * k / total, ":", color="gray", label="chance")
        axes.set_xscale("log")
        axes.set_xlabel("answers looked at, k")
        axes.set_ylabel("recall at k (%)")
        axes.set_title(direction.replace("_", " "), fontsize=10)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return figure


def shorten(caption: str, length: int = 34) -> str:
    """The start of a caption."""
    return caption if len(caption) <= length else caption[: length - 1] + "…"


def top_captions(concepts: Concepts, rows: np.ndarray, k: int = 4) -> Figure:
    """Images with their best captions; the right one is green."""
    figure = Figure(figsize=(9.5, 1.05 * len(rows) / 2 + 0.2), layout="constrained")
    grid = figure.subplots(
        -(-len(rows) // 2), 4, squeeze=False, width_ratios=[1, 4] * 2
    )
    similar = concepts.image_embedding[rows, 0] @ concepts.text_embedding.T
    for axes in grid.ravel():
        axes.axis("off")
    for i, row in enumerate(rows):
        picture, words = grid[i // 2][2 * (i % 2) : 2 * (i % 2) + 2]
        figures.draw_image(picture, concepts.image[row, 0])
        for j, best in enumerate(np.argsort(-similar[i])[:k]):
            words.text(
                0,
                1 - (j + 0.5) / k,
                f"{similar[i, best]:.2f}  {shorten(concepts.caption[best], 44)}",
                color="tab:green" if best == row else "black",
                fontsize=7.5,
                va="center",
            )
    return figure


def top_images(concepts: Concepts, rows: np.ndarray, k: int = 8) -> Figure:
    """Captions with their best pictures of all kinds; right ones have a green frame."""
    n, v, d = concepts.image_embedding.shape
    flat = concepts.image_embedding.reshape(n * v, d)
    pictures = concepts.image.reshape(n * v, *concepts.image.shape[2:])
    similar = concepts.text_embedding[rows] @ flat.T
    figure = Figure(figsize=(0.75 * k + 3, 0.8 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), k, squeeze=False)
    for i, row in enumerate(rows):
        for axes, best in zip(grid[i], np.argsort(-similar[i])[:k], strict=True):
            figures.draw_image(axes, pictures[best])
            for spine in axes.spines.values():
                spine.set(color="tab:green" if best // v == row else "lightgray")
                spine.set_linewidth(2.5 if best // v == row else 1)
        grid[i][0].set_ylabel(
            shorten(concepts.caption[row]), fontsize=7, rotation=0, ha="right"
        )
    return figure


def similarity_picture(concepts: Concepts) -> Figure:
    """Cosines of every image (one kind of picture) with every caption."""
    similar = concepts.image_embedding[:, 0] @ concepts.text_embedding.T
    figure = Figure(figsize=(5.6, 4.8), layout="constrained")
    axes = figure.add_subplot()
    drawn = axes.imshow(similar, cmap="magma", interpolation="nearest")
    axes.set_xlabel("caption of concept")
    axes.set_ylabel("picture of concept")
    figure.colorbar(drawn, label="cosine")
    return figure


def write_report(
    workdir: str | pathlib.Path,
    *,
    title: str,
    summary: str,
    results: Mapping[str, Any],
    found: Mapping[str, Concepts],
    shown: str,
    metrics_dirs: Mapping[str, pathlib.Path],
    curves: tuple[str, ...],
    config_text: str,
) -> pathlib.Path:
    """Draws report.html of an image-text run.

    Args:
      workdir: folder of the run.
      title: heading.
      summary: what was done, in one paragraph.
      results: `scores` of every model, as "name/direction/measure".
      found: embeddings of the test concepts by model.
      shown: the model whose answers are shown.
      metrics_dirs: folders of training metrics by objective.
      curves: training metrics to draw.
      config_text: the config, shown at the end.
    """
    page = report.Report(title, summary)
    page.section(
        "Retrieval of unseen concepts", "Recall and mean reciprocal rank in percent."
    )
    columns = list(scores(found[shown]))
    rows = [[n, *(results[f"{n}/{c}"] for c in columns)] for n in found]
    page.table(["model", *(c.replace("_", " ") for c in columns)], rows)
    page.figure(recall_curves(found), "recall at k in both directions, per model")
    page.section("Training")
    for name, folder in metrics_dirs.items():
        page.text(name)
        page.figure(figures.curves(metrics.read(folder), curves), f"curves of {name}")
    concepts = found[shown]
    rows = np.linspace(0, len(concepts.caption) - 1, 12).astype(int)
    page.section(
        "From a picture to captions",
        "Unseen pictures and their four best captions with the cosine; green: its own.",
    )
    page.figure(top_captions(concepts, rows), "pictures with their best captions")
    page.section(
        "From a caption to pictures",
        "Unseen captions and their eight best pictures; green frame: its own.",
    )
    page.figure(top_images(concepts, rows), "captions with their best pictures")
    page.section(
        "Similarity matrix",
        "Every unseen picture against every unseen caption, in the order of the set, "
        "where neighbours are related: the diagonal is right, blocks are confusions.",
    )
    page.figure(similarity_picture(concepts), "matrix of cosines")
    page.section("Configuration")
    page.code(config_text)
    return page.write(workdir)


@functools.cache
def read_vocabulary(
    name: str, data_dir: str, caption: str, size: int, rows: int
) -> text.Vocabulary:
    """The vocabulary of a set's training captions, built once per process."""
    pairs = image_text.open_pairs(name, "train", data_dir=data_dir, caption=caption)
    return image_text.vocabulary(pairs, size, rows)


def open_split(data: Section, split: str) -> image_text.Pairs:
    """A split of the set that the section `data` of a config names."""
    return image_text.open_pairs(
        data["name"],
        split,
        data_dir=data["data_dir"],
        size=data["size"],
        caption=data["caption"],
    )


def open_vocabulary(data: Section) -> text.Vocabulary:
    """The vocabulary of the set that the section `data` of a config names."""
    return read_vocabulary(
        data["name"],
        data["data_dir"],
        data["caption"],
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
        return jnp.where(gone & (row > text.END), text.UNKNOWN, row)

    return jax.vmap(one)(keys, tokens)
