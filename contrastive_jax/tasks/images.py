"""What image experiments share: batches, views, frozen encoders, evaluation, report.

Frozen features go to a linear probe and a kNN classifier, beside the two baselines
that every learned encoder has to beat: the same encoder at random initialisation, and
raw pixels. `write_report` draws the pictures.
"""

import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from contrastive_jax import parallel, search, similarity
from contrastive_jax.data import images as sets
from contrastive_jax.data.batches import Batch
from contrastive_jax.evaluation import knn, plane, probe
from contrastive_jax.report import Report, maps, plots
from contrastive_jax.report import images as pictures
from contrastive_jax.training import metrics
from contrastive_jax.training.config import Section

# From images [n, h, w, c] in [0, 1] to features [n, d].
Encode = Callable[[jax.Array], jax.Array]


# The random view of one image: from (key, image [h, w, c]) to an image.
Augment = Callable[[jax.Array, jax.Array], jax.Array]


class Split(NamedTuple):
    """Images, labels and features of one split, in the same order."""

    image: np.ndarray
    label: np.ndarray
    features: np.ndarray


def to_unit(image: np.ndarray | jax.Array) -> jax.Array:
    """uint8 images as floating point in [0, 1]."""
    return jnp.asarray(image, jnp.float32) / 255


def batches(data: Section, *, seed: int, start_step: int) -> Iterator[Batch]:
    """Training batches of the set that the section `data` of a config names.

    Yields:
      image: [batch_size, h, w, c] uint8.
      label: [batch_size] int32.
    """
    return sets.batches(
        data["name"],
        data_dir=data["data_dir"],
        size=data["size"],
        batch_size=data["batch_size"],
        seed=seed,
        start_step=start_step,
    )


def init_variables(model: nn.Module, data: Section, seed: int) -> Any:
    """Fresh variables of a model for the images of a set."""
    size = data["size"]
    shape = (size, size, 3)  # images read from disk are cut to size and have colour
    if not size:
        found = sets.load(data["name"], data["data_dir"])
        shape = found.train_image.shape[1:]
    init = jax.jit(functools.partial(model.init, train=False))
    return init(jax.random.key(seed), jnp.zeros((2, *shape)))


def two_views(
    augments: tuple[Augment, Augment],
    image: Array,
    rng: Key[Array, ""],
    step: Array,
    axis_name: str | None,
) -> tuple[Float[Array, "n h w c"], Float[Array, "n h w c"]]:
    """Two random views of every image, the same however the batch is split.

    Args:
      augments: how the first and the second view are drawn.
      image: [n, h, w, c] uint8, this device's rows.
      rng: base key of the run.
      step: number of the step.
      axis_name: device axis, or None.
    """
    unit = to_unit(image)
    keys = parallel.example_keys(rng, step, len(unit), axis_name)
    first, second = jax.vmap(lambda key: jax.random.split(key), out_axes=1)(keys)
    if augments[0] is augments[1]:  # one call compiles once
        both = jax.vmap(augments[0])(
            jnp.concatenate([first, second]), jnp.concatenate([unit, unit])
        )
        return both[: len(unit)], both[len(unit) :]
    return jax.vmap(augments[0])(first, unit), jax.vmap(augments[1])(second, unit)


def make_encoder(model: nn.Module, params: Any, model_state: Any) -> Encode:
    """The frozen encoder of an `EncoderWithHead`, on one device."""
    variables = jax.device_get({"params": params, "batch_stats": model_state})
    return cast(Encode, functools.partial(model.apply, variables, method="encode"))


def pixels(image: jax.Array) -> jax.Array:
    """The raw-pixel baseline: images as vectors."""
    return image.reshape(len(image), -1)


def encode_split(
    encode: Encode, data: Section, split: str, *, limit: int, keep: int = 0
) -> Split:
    """Features of a split (or of `limit` rows spread over it), batch by batch.

    Args:
      encode: the frozen encoder.
      data: name, data_dir and size of the set, see `data.images`.
      split: "train" or "test"; `data["test_split"]` renames the latter.
      limit: rows; 0 for all.
      keep: how many of the images to keep; the others are dropped after encoding.
    """
    batch = 500
    jitted = jax.jit(lambda image: encode(to_unit(image)))
    images, labels, features = [], [], []
    name = data.get("test_split", "test") if split == "test" else split
    for image, label in sets.one_pass(
        data["name"],
        name,
        data_dir=data["data_dir"],
        size=data["size"],
        batch_size=batch,
        limit=limit,
    ):
        padding = [(0, batch - len(image))] + [(0, 0)] * (image.ndim - 1)
        found = jitted(np.pad(image, padding))  # one shape, one compilation
        features.append(np.asarray(found)[: len(image)])
        labels.append(label)
        if sum(map(len, images)) < keep:
            images.append(image)
    image = np.concatenate(images)[:keep] if images else np.zeros((0,))
    return Split(image, np.concatenate(labels), np.concatenate(features))


def scores(train: Split, test: Split, k: int) -> dict[str, float]:
    """Accuracy in percent of a linear probe and of a kNN classifier on features."""
    classes = int(train.label.max()) + 1
    linear = probe.linear_probe(train.features, train.label, test.features, test.label)
    nearest = knn.knn_classify(
        train.features, train.label, test.features, k=k, num_classes=classes
    )
    return {
        "linear": 100 * linear.score,
        "knn": 100 * float(np.mean(np.asarray(nearest) == test.label)),
    }


def evaluate_encoders(
    encoders: Mapping[str, Encode],
    data: Section,
    *,
    train_limit: int,
    test_limit: int,
    k: int,
    held_out: float = 0.0,
) -> dict[str, float]:
    """Accuracy in percent of every encoder, as "name/linear" and "name/knn".

    Args:
      encoders: frozen encoders by name.
      data: name, data_dir and size of the set.
      train_limit: labelled training rows that probe and kNN see; 0 for all.
      test_limit: test rows; 0 for all.
      k: neighbours.
      held_out: when above 0, this share of the labelled training rows stands in for
        the test rows: what hyperparameters are chosen on.
    """
    found = {}
    for name, encode in encoders.items():
        train = encode_split(encode, data, "train", limit=train_limit)
        if held_out:
            kept = round((1 - held_out) * len(train.label))
            train, test = (
                Split(*(x[rows] for x in train))
                for rows in (slice(kept), slice(kept, None))
            )
        else:
            test = encode_split(encode, data, "test", limit=test_limit)
        found |= {f"{name}/{key}": x for key, x in scores(train, test, k).items()}
    return found


def write_report(
    workdir: str | pathlib.Path,
    *,
    title: str,
    summary: str,
    results: Mapping[str, Any],
    curves: tuple[str, ...],
    encode: Encode,
    data: Section,
    views: Mapping[str, Callable[[jax.Array, jax.Array], jax.Array]],
    config_text: str,
    metrics_dir: str | pathlib.Path | None = None,
) -> pathlib.Path:
    """Draws report.html of a self-supervised image run.

    Args:
      workdir: folder of the run.
      title: heading.
      summary: what was done, in one paragraph.
      results: what `evaluate_encoders` returned.
      curves: training metrics to draw.
      encode: the learned encoder.
      data: name, data_dir and size of the set.
      views: random augmentations by name, functions of (key, image).
      config_text: the config, shown at the end.
      metrics_dir: folder whose metrics are drawn, when not `workdir`.
    """
    page = Report(title, summary)
    names = [key.removesuffix("/knn") for key in results if key.endswith("/knn")]
    page.section("Accuracy of frozen features", "Test accuracy in percent.")
    groups = {
        measure: {name: results[f"{name}/{key}"] for name in names}
        for measure, key in (("linear probe", "linear"), ("kNN", "knn"))
    }
    page.figure(
        plots.bars(groups, ylabel="test accuracy (%)"),
        "bars: linear probe and kNN accuracy of every encoder",
    )
    rows = [[n, results[f"{n}/linear"], results[f"{n}/knn"]] for n in names]
    page.table(["features", "linear probe (%)", "kNN (%)"], rows)
    page.section("Training")
    page.figure(
        plots.curves(metrics.read(metrics_dir or workdir), curves), "training curves"
    )

    test = encode_split(encode, data, "test", limit=1000, keep=1000)
    class_names = sets.class_names(data["name"], data["data_dir"])
    page.section(
        "Map of test embeddings",
        "t-SNE of the encoder's features (PCA below 500 rows); colours are classes, "
        "which the encoder never saw unless its objective uses labels.",
    )
    page.figure(
        maps.embedding_map(plane(test.features), test.label, class_names),
        "2-D map of test embeddings coloured by class",
    )
    shown = np.linspace(0, len(test.label) - 1, 8).astype(int)
    unit = similarity.l2_normalize(jnp.asarray(test.features))
    _, nearest = search.nearest_neighbors(
        unit[shown], unit, k=8, exclude=jnp.asarray(shown)[:, None]
    )
    nearest = np.asarray(nearest)
    page.section(
        "Nearest neighbours",
        "Test images and their nearest other test images by cosine of the features; "
        "green: same class, red: another.",
    )
    page.figure(
        pictures.neighbors(
            test.image[shown],
            test.image[nearest],
            test.label[shown],
            test.label[nearest],
            class_names,
        ),
        "grid of query images with their nearest neighbours",
    )
    page.section("What the model sees", "Test images and random views of them.")
    picked = to_unit(test.image[shown])
    rows = {"image": np.asarray(picked)}
    compiled = {f: jax.jit(jax.vmap(f)) for f in views.values()}
    for i, (name, augment) in enumerate(views.items()):
        keys = jax.random.split(jax.random.key(i), len(picked))
        rows[name] = np.asarray(compiled[augment](keys, picked))
    page.figure(pictures.image_rows(rows), "augmented views")
    page.section("Configuration")
    page.code(config_text)
    return page.write(workdir)
