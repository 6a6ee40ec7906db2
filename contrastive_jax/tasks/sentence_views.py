"""What SimCSE and methods measured against it share: texts, model, looks, report.

A batch holds rows of s texts each: tokens [n, s, t] and where [n, s, t]; a sentence
alone (s = 1) has views by dropout. The embeddings are pooled states of an encoder; a
layer with tanh comes after them in training only. While a method trains, alignment and
uniformity are measured on held-out pairs: verses in two translations of which none is
in the test (`tasks.sentences`).
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from contrastive_jax import training
from contrastive_jax.data import array_batches, sentences
from contrastive_jax.models import pretrained
from contrastive_jax.models.pretrained import encoders
from contrastive_jax.report import Report, plots
from contrastive_jax.tasks import sentences as tests
from contrastive_jax.tasks import text_encoders
from contrastive_jax.training import metrics

AXES = ("uniformity", "alignment")
WHITENED = "_whitened"  # ending of what is drawn in a panel of its own
SETS = (*tests.SCORED, *tests.MADE_UP, *tests.PAIRED)


# Presets: sections of a config


def data(**changes: Any) -> ml_collections.ConfigDict:
    """The section `data`."""
    section = dict(
        texts="brown",  # a key of text_encoders.TEXTS, or "verses"
        file="",  # in their place: a line for each row, texts separated by tabs
        count=60_000,  # the first of them
        length=32,  # tokens; what is longer is cut
        batch_size=64,
    )
    return ml_collections.ConfigDict(section | changes)


def looking(**changes: Any) -> ml_collections.ConfigDict:
    """The section `eval`."""
    section = dict(
        sets=("lee", "wordsim353", "simlex999", "glosses", "verses"),
        count=1000,  # pairs to be retrieved
        pairs=256,  # held-out ones
        every=15,  # steps between looks at them
    )
    return ml_collections.ConfigDict(section | changes)


def checks(*, positive: tuple[str, ...] = (), **changes: Any) -> training.Checks:
    """`CHECKS` of such an experiment, with further ranges and choices."""
    sizes = ("data.count", "data.length", "eval.count", "eval.every", "eval.pairs")
    ranges, choices = changes.pop("ranges", {}), changes.pop("choices", {})
    return training.Checks(
        positive=(*text_encoders.POSITIVE, *sizes, "loss.temperature", *positive),
        ranges=text_encoders.RANGES | ranges,
        choices={
            **text_encoders.CHOICES,
            "data.texts": (*text_encoders.TEXTS, "verses"),
            "eval.sets": SETS,
            **choices,
        },
        free=(*text_encoders.FREE, "data.file"),
        **changes,
    )


def use_synthetic(config: Any) -> None:
    """Made-up sentences and a tiny encoder: seconds, and no download."""
    config.model.update(vocab_size=400, width=32, depth=1, mlp_width=64, max_length=16)
    config.start.update(texts="synthetic", length=12, num_steps=4)
    config.data.update(texts="synthetic", count=512, length=12, batch_size=32)
    config.eval.update(sets=("synthetic",), pairs=32)


def use_bert(config: Any) -> None:
    """BERT-base and [CLS], from a folder; tests build it by these sizes."""
    config.model = text_encoders.small(
        path="~/bert-base-uncased",
        vocab_size=30_522,
        width=768,
        depth=12,
        heads=12,
        mlp_width=3072,
        max_length=512,
        pooling="cls",
    )


# Texts


def pairs(config: Any) -> tuple[sentences.Paired, sentences.Paired]:
    """Pairs to train on, and held-out ones; no text of them is in the test.

    Made-up sentences about one topic where `data.texts` is "synthetic".
    """
    return split_pairs(
        config.data.texts == "synthetic", config.eval.count, config.eval.pairs
    )


@functools.cache
def split_pairs(
    synthetic: bool, tested: int, held_out: int
) -> tuple[sentences.Paired, sentences.Paired]:
    """What `pairs` returns."""
    if synthetic:
        kept = [*zip(*(sentences.synthetic(seed=seed) for seed in (2, 3)), strict=True)]
    else:
        test = sentences.verses(tested)
        taken = {*test.queries, *test.documents}
        every = zip(*sentences.verses(), strict=True)
        kept = [pair for pair in every if not taken.intersection(pair)]
    order = np.random.default_rng(0).permutation(len(kept))
    first, second = zip(*(kept[i] for i in order), strict=True)
    parts = (slice(held_out, None), slice(held_out))
    train, held = (sentences.Paired([*first[p]], [*second[p]]) for p in parts)
    return train, held


def columns(config: Any) -> list[Sequence[str]]:
    """Texts to train on, by column: those of a file, or one column of sentences.

    No sentence comes twice: it would be its own negative.
    """
    own = config.data
    if own.file:
        text = pathlib.Path(own.file).expanduser().read_text(encoding="utf-8")
        lines = [*dict.fromkeys(x for x in text.splitlines() if x.strip())]
        rows = [line.split("\t") for line in lines[: own.count]]
        return [*zip(*rows, strict=True)]
    if own.texts == "verses":
        return [pairs(config)[0].queries[: own.count]]
    return [[*dict.fromkeys(text_encoders.TEXTS[own.texts]())][: own.count]]


def batches(
    config: Any, start_step: int, texts: Sequence[Sequence[str]] | None = None
) -> Iterator[dict[str, np.ndarray]]:
    """Shuffled rows of `columns`, or of given texts; batch t depends on (seed, t)."""
    tokenizer = text_encoders.make_tokenizer(config)
    parts = [
        text_encoders.rows(tokenizer, column, config.data.length)
        for column in (columns(config) if texts is None else texts)
    ]
    rows = {name: np.stack([part[name] for part in parts], axis=1) for name in parts[0]}
    return array_batches(
        rows,
        batch_size=config.data.batch_size,
        seed=config.seed,
        start_step=start_step,
    )


# The model


def make_recipe(config: Any) -> pretrained.Recipe:
    """The encoder, with the pooling of the config and nothing after it."""
    recipe = text_encoders.make_recipe(config.model)
    pooling = (config.model.pooling,)
    return dataclasses.replace(recipe, pooling=pooling, dense=(), normalize=False)


def make_optimizer(config: Any) -> Any:
    """With warm-up and cosine decay."""
    return training.make_optimizer(**config.optim, num_steps=config.train.num_steps)


def init(config: Any, params: Any = None) -> training.TrainState:
    """The state at step 0; from random parameters where none are given."""
    recipe, rng = make_recipe(config), jax.random.key(config.seed)
    if params is None:
        params = text_encoders.init_params(recipe, rng)
    else:
        params = jax.device_get(params)  # a step consumes its state
    width = recipe.model.width
    kernel = jax.random.normal(jax.random.fold_in(rng, 1), (width, width))
    layer = {"kernel": kernel / width**0.5, "bias": jnp.zeros(width)}
    params = {"encoder": params["encoder"], "projection": layer}
    fields = training.init_fields(config.seed, params, make_optimizer(config))
    return training.TrainState(**fields)


def project(params: Any, x: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """The layer of training: tanh(x W + b)."""
    return jnp.tanh(encoders.linear(params["projection"], x))


def encoder(config: Any, params: Any) -> Callable[[Sequence[str]], np.ndarray]:
    """Texts to embeddings, without dropout and without the layer."""
    tokenizer = text_encoders.make_tokenizer(config)
    params = {"encoder": jax.device_get(params["encoder"])}
    recipe, length = make_recipe(config), config.data.length
    return text_encoders.encoder(recipe, params, tokenizer, length)


# Evaluation and report


def watch(config: Any) -> dict[str, Callable[[Any], dict[str, float]]]:
    """What is measured of held-out pairs while a method trains."""
    held = pairs(config)[1]

    def held_out(state):
        return tests.geometry(encoder(config, state.params), held)

    return {"held_out": held_out}


def evaluate(
    config: Any, trained: training.Trained, others: Mapping[str, tests.Encode] = {}
) -> dict[str, float]:
    """Test sets (%) of every method, and the geometry of held-out pairs.

    Args:
      config: all settings.
      trained: what was trained, by name.
      others: further encoders by name, from texts to embeddings.
    """
    every = {name: encoder(own, state.params) for name, (own, state) in trained.items()}
    results: dict[str, float] = {}
    for name, encode in {**every, **others}.items():
        found = tests.evaluate(encode, sets=config.eval.sets, count=config.eval.count)
        found |= tests.geometry(encode, pairs(config)[1])
        results |= {f"{name}/{key}": value for key, value in found.items()}
    return results


def write_report(
    workdir: str | pathlib.Path,
    title: str,
    doc: str | None,
    config: Any,
    results: Mapping[str, float],
) -> None:
    """report.html: alignment against uniformity, the test sets, training."""
    names = list(dict.fromkeys(key.partition("/")[0] for key in results))
    folders = {name: pathlib.Path(workdir) / name for name in names if name != "start"}
    lines = {name: metrics.read(f) for name, f in folders.items() if f.exists()}
    colors = plots.method_colors(name.removesuffix(WHITENED) for name in names)
    plain = [name for name in names if not name.endswith(WHITENED)]
    panels = {"embeddings": plain}
    if len(plain) < len(names):
        panels["whitened after all"] = [n for n in names if n.endswith(WHITENED)]
    page = Report(title, (doc or "").partition("\n")[0])
    page.results(results)
    page.section(
        "Alignment against uniformity",
        "Of held-out pairs, while the methods train; lower is better in both.",
    )
    page.figure(plane(results, lines, panels, colors), "alignment against uniformity")
    page.section("Test sets", "Correlations with judgments and retrieval, in percent.")
    for panel, shown in panels.items():
        page.figure(bars_of_sets(results, shown, colors), f"test sets, {panel}")
    page.training(lines)
    page.config(training.config_text(config))
    page.write(workdir)


def plane(
    results: Mapping[str, float],
    lines: Mapping[str, Sequence[Mapping[str, Any]]],
    panels: Mapping[str, Sequence[str]],
    colors: Mapping[str, str],
) -> Figure:
    """The way of every method from the common start; the others are points."""
    ways: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    for panel, names in panels.items():
        ways[panel] = {}
        for name in names:
            end = [results[f"{name}/{axis}"] for axis in AXES]
            looks = [x for x in lines.get(name, ()) if f"held_out/{AXES[0]}" in x]
            first = [results.get(f"start/{axis}", 0.0) for axis in AXES]
            x, y = (
                [begin, *(look[f"held_out/{axis}"] for look in looks)]
                for axis, begin in zip(AXES, first if looks else end, strict=True)
            )
            ways[panel][name.removesuffix(WHITENED)] = x, y
    figure = plots.lines(
        ways, xlabel="uniformity (nats)", ylabel="alignment", colors=colors
    )
    for axes in figure.axes:
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter("{x:g}")
    return figure


def bars_of_sets(
    results: Mapping[str, float], names: Sequence[str], colors: Mapping[str, str]
) -> Figure:
    """The test sets, one measure of each."""
    groups: dict[str, dict[str, float]] = {}
    for key, value in results.items():
        method, _, measure = key.partition("/")
        if method in names and measure.endswith(("/spearman", "/mrr")):
            group = groups.setdefault(measure.replace("/", "\n"), {})
            group[method.removesuffix(WHITENED)] = round(value, 1)
    return plots.bars(groups, ylabel="percent", colors=colors)
