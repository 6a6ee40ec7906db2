"""What image experiments share: presets, batches, views, evaluation, report.

Presets are sections of a config (`data`, `small_resnet`, `evaluation`), or set several
at once (`use_fashion`, `use_digits`, `use_imagenet`).
`train_each` trains methods beside each other and evaluates them while it does.
Frozen features go to a linear probe and a kNN classifier, beside the two baselines
that every learned encoder has to beat: the same encoder at random initialisation, and
raw pixels (`encoders`). `write_report` draws the pictures.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from jaxtyping import Array, Float, Key
from ml_collections.config_dict import placeholder

from contrastive_jax import models, parallel, search, similarity, training
from contrastive_jax.data import images as sets
from contrastive_jax.data import make_augment
from contrastive_jax.data.batches import Batch
from contrastive_jax.evaluation import (
    average_cosine,
    effective_rank,
    knn,
    plane,
    probe,
)
from contrastive_jax.report import Report, maps, plots
from contrastive_jax.report import images as pictures
from contrastive_jax.training import metrics
from contrastive_jax.training.config import Section

# From images [n, h, w, c] in [0, 1] to features [n, d].
Encode = Callable[[jax.Array], jax.Array]

# The random view of one image: from (key, image [h, w, c]) to an image.
Augment = Callable[[jax.Array, jax.Array], jax.Array]


# Images in pictures of neighbors and views, and neighbors of each.
SHOWN = 8

# What the keys of the sections below may hold, see `training.Checks`.
VIEW_RANGES = {
    "brightness": "[0, inf)",
    "contrast": "[0, inf)",
    "degrees": "[0, 180]",
    "flip": "[0, 1]",
    "gray": "[0, 1]",
    "hue": "[0, 1]",
    "kernel": "(0, 1]",
    "p": "[0, 1]",
    "ratio": "(0, inf)",
    "saturation": "[0, inf)",
    "scale": "(0, 1]",
    "shear": "[0, inf)",
    "shift": "[0, 1]",
    "sigma": "(0, inf)",
    "size": "(0, inf)",
    "solarize": "[0, 1]",
    "zoom": "(0, inf)",
}
RANGES = VIEW_RANGES | {
    "data.size": "[0, inf)",
    "data.max_bad_rows": "[0, inf)",
    "grid": "(0, inf)",
    "held_out": "[0, 1)",
    "prediction": "(0, inf)",
    "projection": "(0, inf)",
    "stage_sizes": "[0, inf)",
    "stem_stride": "(0, inf)",
    "test_limit": "[0, inf)",
    "train_limit": "[0, inf)",
    "watch.every": "[0, inf)",
    "watch.rows": "(0, inf)",
}
CHOICES = {
    "block": ("basic", "bottleneck"),
    "method": ("nearest", "linear", "cubic", "lanczos3", "lanczos5"),
    "norm": ("batch", "group"),
    "stem": ("cifar", "imagenet"),
}
FREE = ("data.name", "data.features", "data_dir", "test_split")
OPTIONAL = ("crop", "affine", "jitter", "blur")


def checks(**own: Any) -> training.Checks:
    """`training.Checks` of an image experiment, with its own ranges, choices, free."""
    shared = dict(free=(*FREE, *own.pop("free", ())), optional=OPTIONAL)
    tables = {"ranges": RANGES, "choices": CHOICES}
    merged = {name: table | own.pop(name, {}) for name, table in tables.items()}
    return training.Checks(**shared, **merged, **own)


# Presets: sections of a config


def data(
    name: str, *, batch_size: int = 128, views: Sequence[str] = ("augment",)
) -> ml_collections.ConfigDict:
    """The section `data` of a set, with random views that suit it.

    Args:
      name: "mnist5k", "fashion", "animals", "solar", "emoji" (or another of its names),
        "digits" (8 x 8, for smoke runs) or "imagenet2012".
      batch_size: rows of all devices.
      views: keys of the augmentations; one for both views, or one for each.

    Raises:
      ValueError: another name.
    """
    # Part of a digit, or its mirror image, may be another character: no crop, no flip.
    view: dict[str, Any] = dict(
        size=None,  # of the image
        crop=None,
        affine=dict(degrees=15.0, zoom=(0.85, 1.2), shear=0.2, shift=0.1),
        flip=0.0,
        jitter=dict(p=0.8, brightness=0.4, contrast=0.4, saturation=0.0, hue=0.0),
        gray=0.0,
        blur=None,
        solarize=0.0,
    )
    # data_dir: a TFDS folder; packaged sets and own files (folder:PATH) when empty.
    # size: images are cut to such squares; 0 for as they are.
    # features: names of image and label, in sets that have names for them.
    # max_bad_rows: so many images of own files may be unreadable.
    # held_out: share of the training rows that no batch holds, for `watch`.
    place = dict(
        data_dir="",
        size=0,
        features=sets.FEATURES,
        max_bad_rows=0,
        test_split="test",
        held_out=0.0,
    )
    if name == "fashion":
        # A little milder than on photos.
        view |= dict(crop=crop(0.15, "linear"), affine=None, flip=0.5)
        view["jitter"] |= dict(brightness=0.8, contrast=0.8)
    elif name == "digits":
        view |= dict(jitter=None)
        view["affine"] |= dict(degrees=10.0, zoom=(0.9, 1.1), shear=0.1)
    elif name == "animals":
        view |= dict(flip=0.5)
        view["affine"] |= dict(zoom=(0.7, 1.3))
    elif name == "solar":  # a cell has no upper end; brightness may be the defect
        view |= dict(crop=crop(0.4, "linear"), flip=0.5)
        view["affine"] |= dict(zoom=(1.0, 1.0), shear=0.0)
        view["jitter"] |= dict(brightness=0.2, contrast=0.2)
    elif name.startswith("emoji"):
        view |= dict(crop=crop(0.3, "linear"), affine=None, flip=0.5, gray=0.2)
        view["jitter"] |= dict(saturation=0.4, hue=0.1)
    elif name == "imagenet2012":
        place |= dict(
            data_dir="~/tensorflow_datasets", size=256, test_split="validation"
        )
        # Chen et al. 2020, appendix A: color strength 1.0, so 0.8, 0.8, 0.8, 0.2.
        view = dict(
            size=(224, 224),
            crop=crop(0.08, "cubic"),
            affine=None,
            flip=0.5,
            jitter=dict(p=0.8, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2),
            gray=0.2,
            blur=dict(p=0.5, sigma=(0.1, 2.0), kernel=0.1),
            solarize=0.0,
        )
    elif name != "mnist5k":
        raise ValueError(
            "name: expected mnist5k, fashion, animals, solar, emoji, digits or "
            f"imagenet2012, got {name!r}"
        )
    section = dict(name=name, **place, batch_size=batch_size)
    # Each view gets its own copy of the nested values.
    return ml_collections.ConfigDict(
        section | {key: ml_collections.ConfigDict(typed(view)) for key in views}
    )


def typed(view: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a view whose values of None have a type: a tuple or a section."""
    copy: dict[str, Any] = ml_collections.ConfigDict(view).to_dict()
    for key, value in copy.items():
        if value is None:
            kind = tuple if key == "size" else ml_collections.ConfigDict
            copy[key] = placeholder(kind)
    return copy


def crop(smallest: float, method: str) -> ml_collections.ConfigDict:
    """Random crops from `smallest` of the area to all of it, resized by `method`."""
    section = dict(scale=(smallest, 1.0), ratio=(3 / 4, 4 / 3), method=method)
    return ml_collections.ConfigDict(section)


def small_resnet(**changes: Any) -> ml_collections.ConfigDict:
    """The section `model` of a residual network for small pictures, placed alike."""
    section = dict(
        stage_sizes=(0, 1, 1),  # no block at the stem's costly resolution
        width=16,
        block="basic",
        stem="cifar",
        stem_stride=2,
        grid=4,  # features keep where they are
        dtype="float32",
        projection=(128, 64),
    )
    return ml_collections.ConfigDict(section | changes)


def evaluation(**changes: Any) -> ml_collections.ConfigDict:
    """The section `eval`: the arguments of `evaluate_encoders`."""
    section = dict(train_limit=0, test_limit=0, k=20, held_out=0.0)
    return ml_collections.ConfigDict(section | changes)


def watching(**changes: Any) -> ml_collections.ConfigDict:
    """The section `watch`: steps between evaluations (0: none), rows they encode."""
    return ml_collections.ConfigDict(dict(every=100, rows=1000) | changes)


def use_fashion(config: ml_collections.ConfigDict) -> None:
    """Fashion-MNIST with the 5,000 labels that probe and kNN see."""
    config.data = data("fashion", views=view_names(config.data))
    config.eval.train_limit = 5000


def use_digits(config: ml_collections.ConfigDict) -> None:
    """A smoke run: 40 steps of a tiny network on digits of 8 x 8 pixels."""
    config.data = data("digits", batch_size=64, views=view_names(config.data))
    config.model.update(
        stage_sizes=(1,), width=8, stem_stride=1, grid=1, projection=(32, 16)
    )
    config.optim.warmup_steps = 2
    config.train.update(num_steps=40, log_every=5, save_every=20)
    config.watch.update(every=20, rows=200)
    config.eval.k = 5


def use_imagenet(config: ml_collections.ConfigDict, *, batch_size: int) -> None:
    """ImageNet from a TFDS folder, ResNet-50, a projection of 2048 and 128 units."""
    views = view_names(config.data)
    config.data = data("imagenet2012", batch_size=batch_size, views=views)
    config.model.update(
        stage_sizes=(3, 4, 6, 3),
        width=64,
        block="bottleneck",
        stem="imagenet",
        stem_stride=2,
        grid=1,
        projection=(2048, 128),
    )
    config.train.update(log_every=100, save_every=1000)
    config.watch.update(every=5000, rows=20_000)
    config.eval.update(train_limit=100_000, test_limit=0, k=200)


def view_names(section: Section) -> tuple[str, ...]:
    """The keys of the augmentations in a section that `data` made."""
    return tuple(k for k in ("augment", "first_view", "second_view") if k in section)


def imagenet_batch() -> dict[str, tuple[tuple[int, ...], str]]:
    """A row of the batches of ImageNet: shape and type of each array."""
    return {"image": ((256, 256, 3), "uint8"), "label": ((), "int32")}


# Models and states


def make_model(
    model: Section, axis_name: str | None = None, **heads: Any
) -> models.EncoderWithHead:
    """The residual network of a section `model`, and perceptrons as its heads.

    Args:
      model: as `small_resnet` makes it. Of the heads it may have `projection` (layers
        of the head), `prediction` (of a predictor behind it), `batch_norm` (between
        layers; on by default) and `last_batch_norm` (after the head, without scale and
        bias).
      axis_name: device axis that batch statistics are shared over, or None.
      **heads: values of these four that replace the section's.
    """
    names = ("stage_sizes", "width", "block", "stem", "stem_stride", "grid", "norm")
    fields: dict[str, Any] = {name: model[name] for name in names if name in model}
    shared: dict[str, Any] = dict(axis_name=axis_name, dtype=jnp.dtype(model["dtype"]))
    defaults = dict(prediction=(), batch_norm=True, last_batch_norm=False)
    value = {
        name: heads.get(name, model.get(name, defaults.get(name)))
        for name in ("projection", *defaults)
    }
    between = dict(batch_norm=value["batch_norm"], **shared)
    last = dict(last_batch_norm=value["last_batch_norm"], last_affine=False)
    projection, prediction = tuple(value["projection"]), tuple(value["prediction"])
    return models.EncoderWithHead(
        models.Resnet(**fields, **shared),
        models.Mlp(projection, **last, **between),
        models.Mlp(prediction, **between) if prediction else None,
    )


def init_fields(
    config: ml_collections.ConfigDict,
    model: nn.Module,
    tx: optax.GradientTransformation,
) -> dict[str, Any]:
    """The fields of a `training.TrainState` at step 0, for the images of a config."""
    variables = init_variables(model, config.data, config.seed)
    return training.init_fields(
        config.seed, variables["params"], tx, variables.get("batch_stats", {})
    )


class Split(NamedTuple):
    """Images, labels and features of one split, in the same order."""

    image: np.ndarray
    label: np.ndarray
    features: np.ndarray


def to_unit(image: np.ndarray | jax.Array) -> jax.Array:
    """uint8 images as floating point in [0, 1]."""
    return jnp.asarray(image, jnp.float32) / 255


def place(data: Section) -> dict[str, Any]:
    """Where the images of a section `data` are: arguments of `data.images`."""
    names = ("data_dir", "features", "max_bad_rows")
    return {name: data[name] for name in names}


def class_names(data: Section) -> tuple[str, ...]:
    """The names of the classes of a section `data`; () where there are no labels."""
    return sets.class_names(data["name"], **place(data))


def num_classes(data: Section) -> int:
    """The number of classes of a section `data`.

    Raises:
      ValueError: the set has no labels.
    """
    names = class_names(data)
    if not names:
        raise ValueError(
            f"data.name: expected images with labels, which the objective needs; "
            f"{data['name']} has none"
        )
    return len(names)


def batches(
    data: Section, *, seed: int, start_step: int, labels: bool = False
) -> Iterator[Batch]:
    """Training batches of the set that the section `data` of a config names.

    Args:
      data: the section.
      seed: seed of the order.
      start_step: number of the first batch.
      labels: whether the objective needs labels.

    Yields:
      image: [batch_size, h, w, c] uint8.
      label: [batch_size] int32, where the set has labels.

    Raises:
      ValueError: labels are needed, and there are none.
    """
    if labels:
        num_classes(data)
    return sets.batches(
        data["name"],
        **place(data),
        size=data["size"],
        held_out=data["held_out"],
        batch_size=data["batch_size"],
        seed=seed,
        start_step=start_step,
    )


def init_variables(model: nn.Module, data: Section, seed: int) -> Any:
    """Fresh variables of a model for the images of a set."""
    shape = sets.image_shape(data["name"], size=data["size"], **place(data))
    return fresh_variables(model, jax.random.key(seed), shape)


@functools.partial(jax.jit, static_argnames=("model", "shape"))
def fresh_variables(model: nn.Module, rng: jax.Array, shape: tuple[int, ...]) -> Any:
    """Variables for rows of a shape, compiled once for equal models."""
    return model.init(rng, jnp.zeros((2, *shape)), train=False)


def make_views(data: Section) -> tuple[Augment, Augment]:
    """How the first and the second view of an image are drawn, see `data`."""
    if "augment" in data:
        augment = make_augment(**data["augment"].to_dict())
        return augment, augment
    first, second = data["first_view"], data["second_view"]
    return make_augment(**first.to_dict()), make_augment(**second.to_dict())


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


@dataclasses.dataclass(frozen=True)
class Features:
    """Features of a model by its variables; equal models compile once."""

    model: nn.Module

    def __call__(self, variables: Any, image: jax.Array) -> Any:
        return self.model.apply(variables, image, method="encode")


def make_encoder(model: nn.Module, params: Any, model_state: Any) -> Encode:
    """The frozen encoder of an `EncoderWithHead`, on one device."""
    variables = jax.device_get({"params": params, "batch_stats": model_state})
    return jax.tree_util.Partial(Features(model), variables)


@jax.jit
def run_encoder(encode: jax.tree_util.Partial, image: jax.Array) -> jax.Array:
    """Features of uint8 images; the variables in a Partial are arguments, traced."""
    return encode(to_unit(image))


def encoders(
    trained: training.Trained, init: Callable[..., Any], encode: Callable[..., Encode]
) -> dict[str, Encode]:
    """The encoders of trained methods, and the baselines of every learned encoder.

    Args:
      trained: {name: (config, state)}.
      init: `init(config)`, the state at step 0.
      encode: `encode(config, state)`, the frozen encoder.
    """
    config, _ = next(iter(trained.values()))
    learned = {name: encode(*pair) for name, pair in trained.items()}
    return learned | {"random_init": encode(config, init(config)), "pixels": pixels}


def pixels(image: jax.Array) -> jax.Array:
    """The raw-pixel baseline: images as vectors."""
    return image.reshape(len(image), -1)


def encode_images(encode: Encode, image: np.ndarray, batch: int = 500) -> np.ndarray:
    """What a frozen network makes of uint8 images, batch by batch.

    Args:
      encode: from images in [0, 1], in one shape and so compiled once.
      image: [n, h, w, c] uint8.
      batch: images at a time.
    """
    if not isinstance(encode, jax.tree_util.Partial):
        encode = jax.tree_util.Partial(encode)
    parts = []
    for start in range(0, len(image), batch):
        part = image[start : start + batch]
        padding = [(0, batch - len(part))] + [(0, 0)] * (image.ndim - 1)
        encoded = run_encoder(encode, np.pad(part, padding))
        parts.append(np.asarray(encoded)[: len(part)])
    return np.concatenate(parts)


def encode_split(
    encode: Encode, data: Section, split: str, *, limit: int, keep: int = 0
) -> Split:
    """Features of a split (or of `limit` rows spread over it), batch by batch.

    Args:
      encode: the frozen encoder.
      data: the section of a config, see `data.images`.
      split: "train", "held_out" or "test"; `data["test_split"]` renames the last.
      limit: rows; 0 for all.
      keep: how many of the images to keep; the others are dropped after encoding.
    """
    batch = 500
    if not isinstance(encode, jax.tree_util.Partial):
        encode = jax.tree_util.Partial(encode)
    images, labels, features = [], [], []
    name = data.get("test_split", "test") if split == "test" else split
    for image, label in sets.one_pass(
        data["name"],
        name,
        **place(data),
        size=data["size"],
        held_out=data["held_out"],
        batch_size=batch,
        limit=limit,
    ):
        features.append(encode_images(encode, image, batch))
        labels.append(label)
        if sum(map(len, images)) < keep:
            images.append(image)
    image = np.concatenate(images)[:keep] if images else np.zeros((0,))
    return Split(image, np.concatenate(labels), np.concatenate(features))


# Training, and evaluation while it lasts


def train_each(
    methods: Mapping[str, Mapping[str, Any]],
    config: ml_collections.ConfigDict,
    workdir: str | pathlib.Path,
    init: Callable[..., Any],
    make_step: Callable[..., Any],
    batches: Callable[..., Iterator[Batch]],
    encode: Callable[..., Encode],
) -> training.Trained:
    """`training.train_each` that logs the learning rate and what `watch` measures.

    Args:
      methods: as there, and so are all but the last.
      config: with a section `watch`, see `watching`.
      workdir: a folder per method is made in it.
      init: the state at step 0.
      make_step: the step.
      batches: the batches.
      encode: `encode(config, state)`, the frozen encoder.
    """

    def make_logged(own, axis_name=None):
        step = make_step(own, axis_name)
        peak, warmup = own.optim.learning_rate, own.optim.warmup_steps
        rate = training.warmup_cosine(peak, own.train.num_steps, warmup)

        def run(state, batch):
            after, values = step(state, batch)
            return after, {**values, "learning_rate": rate(state.step)}

        return run

    def evals(own):
        return {"watch": lambda state: watch(own, encode(own, state))}

    shared = (config, workdir, init, make_logged, batches)
    every = config.watch.every
    return training.train_each(methods, *shared, evals=evals, eval_every=every)


def watch(config: ml_collections.ConfigDict, encode: Encode) -> dict[str, float]:
    """What an encoder has learned, or collapsed to, measured on training rows.

    Rows held out of training (`data.held_out`) are classified by their nearest
    neighbors among the others; where none are held out, training rows by the nearest
    others of them. "knn" is the accuracy in percent, left out where there are no
    labels; the others are those of `spread`.
    """
    rows = config.watch.rows
    bank = encode_split(encode, config.data, "train", limit=rows)
    asked, features = bank, None
    if config.data.held_out:
        asked = encode_split(encode, config.data, "held_out", limit=rows)
        features = asked.features
    if not class_names(config.data):
        return spread(asked.features)
    classes = int(max(bank.label.max(), asked.label.max())) + 1
    nearest = knn.knn_classify(
        bank.features, bank.label, features, k=config.eval.k, num_classes=classes
    )
    own = {"knn": 100 * float(np.mean(np.asarray(nearest) == asked.label))}
    return own | spread(asked.features)


def spread(features: np.ndarray) -> dict[str, float]:
    """How far features are from a collapse, without labels.

    "effective_rank" is that of the features without their mean, "mean_cosine" that of
    the features as they are: high behind a ReLU, 1 when all collapse to one direction.
    """
    return {
        "effective_rank": float(effective_rank(features - features.mean(axis=0))),
        "mean_cosine": float(average_cosine(features)),
    }


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


def accuracy(classify: Encode, data: Section, *, limit: int) -> float:
    """Test accuracy (%) of a classifier from images to class scores."""
    test = encode_split(classify, data, "test", limit=limit)
    return 100 * float(np.mean(test.features.argmax(axis=-1) == test.label))


def evaluate(
    config: ml_collections.ConfigDict,
    trained: training.Trained,
    init: Callable[..., Any],
    encode: Callable[..., Encode],
) -> dict[str, float]:
    """`evaluate_encoders` of trained methods and baselines; arguments as `encoders`."""
    frozen = encoders(trained, init, encode)
    return evaluate_encoders(frozen, config.data, **config.eval)


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

    Of a set without labels, "name/effective_rank" and "name/mean_cosine" of test rows:
    see `spread`.

    Args:
      encoders: frozen encoders by name.
      data: the section of a config.
      train_limit: labelled training rows that probe and kNN see; 0 for all.
      test_limit: test rows; 0 for all.
      k: neighbours.
      held_out: when above 0, this share of the labelled training rows stands in for
        the test rows: what hyperparameters are chosen on.
    """
    results = {}
    if not class_names(data):
        print(f"{data['name']} has no labels: no linear probe and no kNN", flush=True)
        for name, encode in encoders.items():
            test = encode_split(encode, data, "test", limit=test_limit)
            results |= {f"{name}/{k}": x for k, x in spread(test.features).items()}
        return results
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
        results |= {f"{name}/{key}": x for key, x in scores(train, test, k).items()}
    return results


def write_report(
    workdir: str | pathlib.Path,
    doc: str,
    config: ml_collections.ConfigDict,
    results: Mapping[str, Any],
    trained: training.Trained,
    encode: Callable[..., Encode],
    chance: Mapping[str, float] | None = None,
) -> pathlib.Path:
    """Draws report.html of a run: accuracies, curves, map, neighbors, views, config.

    Args:
      workdir: folder of the run; metrics lie in a folder per method.
      doc: docstring of the experiment; its first line is "Name: what it is".
      config: the config.
      results: what `evaluate_encoders` returned.
      trained: {name: (config, state)}; the first is the one whose features are shown.
      encode: `encode(config, state)`, the frozen encoder.
      chance: loss by chance of methods, see `Report.training`.
    """
    summary = doc.partition("\n")[0]
    page = Report(f"{summary.partition(':')[0]} on {config.data.name}", summary)
    add_accuracies(page, results)
    runs = {m: metrics.read(pathlib.Path(workdir) / m) for m in trained}
    add_training(page, runs, chance)
    add_features(page, config.data, encode(*next(iter(trained.values()))))
    page.config(training.config_text(config))
    return page.write(workdir)


def add_accuracies(page: Report, results: Mapping[str, Any]) -> None:
    """Adds a bar chart and a table of linear probe and kNN of every encoder.

    Without labels: a table of what was measured without them.
    """
    if not any(key.endswith("/knn") for key in results):
        page.section(
            "Features",
            "The set has no labels, so there is no linear probe and no kNN. An "
            "effective rank or a mean cosine near 1 is a sign of collapse.",
        )
        page.results(results)
        return
    names = [key.removesuffix("/knn") for key in results if key.endswith("/knn")]
    measures = {"linear probe": "linear", "kNN": "knn"}
    groups = {
        measure: {name: results[f"{name}/{key}"] for name in names}
        for measure, key in measures.items()
    }
    page.section("Accuracy of frozen features", "Test accuracy in percent.")
    page.figure(
        plots.bars(groups, ylabel="test accuracy (%)"),
        "bars: linear probe and kNN accuracy of every encoder",
    )
    rows = [[n, *(results[f"{n}/{key}"] for key in measures.values())] for n in names]
    page.table(["features", *(f"{measure} (%)" for measure in measures)], rows)


WATCHED = {
    "knn": "kNN accuracy (%)",
    "effective_rank": "effective rank of the features, centered",
    "mean_cosine": "mean cosine of the features",
}


def add_training(
    page: Report,
    runs: Mapping[str, Sequence[Mapping[str, Any]]],
    chance: Mapping[str, float] | None = None,
) -> None:
    """Adds the curves of every method, and what `watch` measured, side by side.

    Args:
      page: the report.
      runs: logged lines of each method, as `training.metrics.read` gives them.
      chance: loss by chance of methods, see `Report.training`.
    """
    colors = plots.method_colors(runs)
    watched = {
        m: [x for x in run if "watch/effective_rank" in x] for m, run in runs.items()
    }
    if any(watched.values()):
        page.section(
            "While training",
            "Of rows held out of training, or of training rows where none are. An "
            "effective rank or a mean cosine near 1 is a sign of collapse.",
        )
        first = next(x for run in watched.values() for x in run)
        for key, ylabel in WATCHED.items():
            if f"watch/{key}" not in first:
                continue  # no labels
            points = {
                name: ([x["step"] for x in run], [x[f"watch/{key}"] for x in run])
                for name, run in watched.items()
            }
            axes = dict(xlabel="step", ylabel=ylabel)
            figure = plots.lines({"": points}, **axes, colors=colors)
            page.figure(figure, f"{ylabel} over the steps")

    def own(line):
        return {key: x for key, x in line.items() if not key.startswith("watch/")}

    shown = {name: [own(line) for line in run] for name, run in runs.items()}
    page.training(shown, chance)


def add_features(page: Report, data: Section, encode: Encode) -> None:
    """Adds a map of test embeddings, nearest neighbors, and what the model sees."""
    test = encode_split(encode, data, "test", limit=1000, keep=1000)
    names = class_names(data)
    colors = "colours are classes, which the encoder never saw unless its objective "
    colors += "uses labels."
    if not names:  # one class of all
        colors = "the set has no labels."
        names, test = ("no label",), test._replace(label=0 * test.label)
    page.section(
        "Map of test embeddings",
        f"t-SNE of the encoder's features (PCA below 500 rows); {colors}",
    )
    page.figure(
        maps.embedding_map(plane(test.features), test.label, names),
        "2-D map of test embeddings coloured by class",
    )
    shown = np.linspace(0, len(test.label) - 1, SHOWN).astype(int)
    nearest = nearest_others(test.features, shown)
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
            names,
        ),
        "grid of query images with their nearest neighbours",
    )
    page.section("What the model sees", "Test images and random views of them.")
    unit = test.image[shown].astype(np.float32) / 255
    rows = {"image": unit}
    for i, augment in enumerate(make_views(data)):
        rows[f"view {i + 1}"] = np.asarray(draw_views(augment, jax.random.key(i), unit))
    page.figure(pictures.image_rows(rows), "augmented views")


@functools.partial(jax.jit, static_argnames="augment")
def draw_views(augment: Augment, rng: jax.Array, image: jax.Array) -> jax.Array:
    """A random view of each image."""
    return jax.vmap(augment)(jax.random.split(rng, len(image)), image)


def nearest_others(features: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """The `SHOWN` nearest other rows of some rows by cosine, best first."""

    @jax.jit
    def run(features):
        unit, own = similarity.l2_normalize(features), jnp.asarray(shown)
        found = search.nearest_neighbors(unit[own], unit, k=SHOWN, exclude=own[:, None])
        return found[1]

    return np.asarray(run(features))
