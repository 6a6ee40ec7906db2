"""What SimCSE and methods measured against it share: texts, model, looks, report.

A batch holds rows of s texts each: tokens [n, s, t] and where [n, s, t]; a sentence
alone (s = 1) has views by dropout. The embeddings are pooled states of an encoder; a
layer with tanh comes after them in training only.

Alignment and uniformity, and the measure by which settings are chosen ("validation"),
are of held-out pairs, none of them in the test: verses in two translations, definitions
and their words.
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

from contrastive_jax import parallel, training
from contrastive_jax.data import array_batches, sentences
from contrastive_jax.data.formats import tables
from contrastive_jax.models import pretrained
from contrastive_jax.models.pretrained import encoders
from contrastive_jax.report import Report, plots
from contrastive_jax.tasks import sentences as tests
from contrastive_jax.tasks import text_encoders
from contrastive_jax.training import metrics

AXES = ("uniformity", "alignment")
# Endings of names that are drawn in a panel of their own, and its title.
CENTERED, WHITENED = "_centered", "_whitened"
PANELS = {CENTERED: "centered after all", WHITENED: "whitened after all"}
SETS = (*tests.SCORED, *tests.MADE_UP, *tests.PAIRED)


# Presets: sections of a config


def data(**changes: Any) -> ml_collections.ConfigDict:
    """The section `data`."""
    section = dict(
        texts="brown",  # a key of text_encoders.TEXTS, or "verses"
        # file: in their place, a line for each row, texts separated by tabs; or
        # csv:FILE, jsonl:FILE.
        file="",
        features=("text",),  # columns of such a table: a sentence, or views of one
        count=60_000,  # the first of them
        length=32,  # tokens; what is longer is cut, in training only
        batch_size=64,
    )
    return ml_collections.ConfigDict(section | changes)


def looking(**changes: Any) -> ml_collections.ConfigDict:
    """The section `eval`."""
    section = dict(
        sets=("lee", "wordsim353", "simlex999", "glosses"),
        count=1000,  # pairs to be retrieved
        length=128,  # tokens; what is longer is cut
        pairs=256,  # held-out ones of each kind
        every=15,  # steps between looks at them
    )
    return ml_collections.ConfigDict(section | changes)


def checks(*, positive: tuple[str, ...] = (), **changes: Any) -> training.Checks:
    """`CHECKS` of such an experiment, with further ranges and choices."""
    sizes = ("count", "length", "eval.every", "eval.pairs")
    ranges, choices = changes.pop("ranges", {}), changes.pop("choices", {})
    return training.Checks(
        positive=(*text_encoders.POSITIVE, *sizes, "loss.temperature", *positive),
        ranges=text_encoders.RANGES | ranges,
        choices={
            **text_encoders.CHOICES,
            "data.texts": (*text_encoders.TEXTS, "verses"),
            "model.param_dtype": ("float32", "bfloat16", "float16"),
            "eval.sets": SETS,
            **choices,
        },
        free=(*text_encoders.FREE, "data.file", "data.features"),
        **changes,
    )


def use_synthetic(config: Any) -> None:
    """Made-up sentences and a tiny encoder: seconds, and no download."""
    sizes = dict(vocab_size=400, width=32, depth=1, mlp_width=64, max_length=16)
    config.model = text_encoders.small(**sizes, dropout=0.3)
    # From random weights: what a masked language model has beside is left out.
    start = dict(texts="synthetic", count=512, vectors=False)
    start |= dict(num_steps=0, learning_rate=1e-3)
    config.start = ml_collections.ConfigDict(start)
    config.data.update(texts="synthetic", count=512, length=12, batch_size=32)
    config.eval.update(sets=("synthetic",), length=12, pairs=32)


def model() -> ml_collections.ConfigDict:
    """The section `model`: two blocks of a language model that embeds no sentences."""
    return text_encoders.packaged(path="reranker", layers=2, pooling="mean")


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
        every = [
            *zip(*(sentences.synthetic(seed=seed) for seed in (2, 3)), strict=True)
        ]
    else:
        every = untested(sentences.verses, tested)
    order = np.random.default_rng(0).permutation(len(every))
    first, second = zip(*(every[i] for i in order), strict=True)
    parts = (slice(held_out, None), slice(held_out))
    train, held = (sentences.Paired([*first[p]], [*second[p]]) for p in parts)
    return train, held


@functools.cache
def definitions(tested: int, held_out: int) -> sentences.Paired:
    """Held-out definitions and their words, of which none is in the test."""
    every = untested(sentences.glosses, tested)
    rows = np.random.default_rng(0).choice(len(every), held_out, replace=False)
    first, second = zip(*(every[i] for i in rows), strict=True)
    return sentences.Paired([*first], [*second])


def untested(
    read: Callable[..., sentences.Paired], tested: int
) -> list[tuple[str, str]]:
    """The pairs of a set that share no text with those of its test."""
    test = read(tested)
    taken = {*test.queries, *test.documents}
    every = zip(*read(), strict=True)
    return [pair for pair in every if not taken.intersection(pair)]


def columns(config: Any) -> list[Sequence[str]]:
    """Texts to train on, by column: those of a file, or one column of sentences.

    No sentence comes twice: it would be its own negative.

    Raises:
      DataMissing: no such file.
      ValueError: one of its lines has more or fewer texts, or an empty one; names it.
    """
    own, names = config.data, tuple(config.data.features)
    if own.file:
        return [*zip(*read_rows(own.file, names)[: own.count], strict=True)]
    if own.texts == "verses":
        return [pairs(config)[0].queries[: own.count]]
    return [[*dict.fromkeys(text_encoders.TEXTS[own.texts]())][: own.count]]


@functools.cache
def read_rows(name: str, features: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The rows of a user's file, each once, see `columns`."""
    kind, _ = tables.kind_of(name)
    if kind in ("csv", "jsonl"):
        return [*dict.fromkeys(tables.read(name, features))]
    file = name.removeprefix("tsv:")
    rows = [line.split("\t") for (line,) in tables.read_lines(file)]
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]) or not all(text.strip() for text in row):
            raise ValueError(
                f"{file}, row {number}: expected {len(rows[0])} texts separated by "
                f"tabs, as in the first row, got {row!r:.80}"
            )
    return [*dict.fromkeys(map(tuple, rows))]


def batches(
    config: Any, start_step: int, texts: Sequence[Sequence[str]] | None = None
) -> Iterator[dict[str, np.ndarray]]:
    """Shuffled rows of `columns`, or of given texts; batch t depends on (seed, t)."""
    tokenizer = text_encoders.make_tokenizer(config)
    own, every = config.data, columns(config) if texts is None else texts
    order = array_batches(
        {"row": np.arange(len(every[0]))},
        batch_size=own.batch_size,
        seed=config.seed,
        start_step=start_step,
    )
    for batch in order:
        chosen = [int(i) for i in batch["row"]]
        parts = [
            text_encoders.rows(tokenizer, [column[i] for i in chosen], own.length)
            for column in every
        ]
        yield {name: np.stack([x[name] for x in parts], axis=1) for name in parts[0]}


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


def text_encoder(config: Any, params: Any) -> pretrained.TextEncoder:
    """The trained encoder with its tokenizer, without the layer of training."""
    tokenizer = text_encoders.make_tokenizer(config)
    params = {"encoder": jax.device_get(params["encoder"])}
    return pretrained.TextEncoder(
        make_recipe(config), params, tokenizer, config.eval.length
    )


def encoder(config: Any, params: Any) -> tests.Encode:
    """Texts to embeddings, without dropout and without the layer; each text once."""
    whole = text_encoder(config, params)
    known: dict[str, np.ndarray] = {}

    def embed(texts):  # longer ones are cut in silence
        return whole.encode(whole.params, whole.tokenize(texts))

    def encode(texts):
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new:
            known.update(zip(new, embed(new), strict=True))
        return np.stack([known[text] for text in texts])

    return encode


def trained_encoders(trained: training.Trained) -> dict[str, tests.Encode]:
    """`encoder` of every method."""
    return {name: encoder(own, state.params) for name, (own, state) in trained.items()}


# Training


def make_step(
    config: Any, loss_of: Callable[..., Any], axis_name: str | None
) -> Callable[..., Any]:
    """`step(state, batch) -> (state, metrics)` of a loss.

    Args:
      config: all settings.
      loss_of: `loss_of(params, state, batch, keys, rows)`: a scalar; a random key for
        each row of the batch, and its number among the rows of all devices.
      axis_name: of the devices.
    """
    tx, optim = make_optimizer(config), config.optim
    rate = training.warmup_cosine(
        optim.learning_rate, config.train.num_steps, optim.warmup_steps
    )

    def step(state, batch):
        count = len(batch["tokens"])
        keys = parallel.example_keys(state.rng, state.step, count, axis_name)
        rows = parallel.global_rows(count, axis_name)

        def loss_fn(params):
            return loss_of(params, state, batch, keys, rows)

        loss, grads = parallel.value_and_grad(loss_fn, axis_name)(state.params)
        values = {
            "loss": loss,
            "grad_norm": training.global_norm(grads),
            "learning_rate": rate(state.step),
        }
        return training.apply_gradients(state, grads, tx), values

    return step


# Evaluation and report


def held_out(config: Any, encode: tests.Encode) -> dict[str, float]:
    """Measures of pairs that neither train nor test.

    Returns:
      `tasks.sentences.geometry` of verses, and "validation": the mean, in percent, of
      their reciprocal rank and that of words by their definitions (but for made-up
      sentences).
    """
    found = tests.geometry(encode, pairs(config)[1])
    ranks = [found.pop("mrr")]
    if config.data.texts != "synthetic":
        own = definitions(config.eval.count, config.eval.pairs)
        ranks.append(tests.retrieval(encode, own)["mrr"])
    return found | {"validation": float(np.mean(ranks))}


def watch(config: Any) -> dict[str, Callable[[Any], dict[str, float]]]:
    """What is measured of held-out pairs while a method trains."""
    return {"held_out": lambda x: held_out(config, encoder(config, x.params))}


def evaluate(config: Any, named: Mapping[str, tests.Encode]) -> dict[str, float]:
    """Test sets (%) of every encoder by its name, and measures of held-out pairs."""
    results: dict[str, float] = {}
    for name, encode in named.items():
        found = tests.evaluate(encode, sets=config.eval.sets, count=config.eval.count)
        found |= held_out(config, encode)
        results |= {f"{name}/{key}": value for key, value in found.items()}
    return results


def write_report(
    workdir: str | pathlib.Path,
    title: str,
    doc: str | None,
    config: Any,
    results: Mapping[str, float],
    chance: Mapping[str, float] | None = None,
) -> None:
    """report.html: alignment against uniformity, the test sets, training.

    `chance` is the loss by chance of methods, see `Report.training`.
    """
    names = list(dict.fromkeys(key.partition("/")[0] for key in results))
    folders = {name: pathlib.Path(workdir) / name for name in names if name != "start"}
    lines = {name: metrics.read(f) for name, f in folders.items() if f.exists()}
    colors = plots.method_colors(plain(name) for name in names)
    panels = {"embeddings": [name for name in names if name == plain(name)]}
    for ending, panel in PANELS.items():
        if own := [name for name in names if name.endswith(ending)]:
            panels[panel] = own
    page = Report(title, (doc or "").partition("\n")[0])
    page.results(results)
    page.section(
        "Alignment against uniformity",
        "Of held-out pairs, while the methods train; lower is better in both.",
    )
    page.figure(plane(results, lines, panels, colors), "alignment against uniformity")
    if config.eval.sets:
        page.section("Test sets", "Correlations and reciprocal ranks, in percent.")
        for panel, shown in panels.items():
            page.figure(bars_of_sets(results, shown, colors), f"test sets, {panel}")
    page.training(lines, chance)
    page.config(training.config_text(config))
    page.write(workdir)


def plain(name: str) -> str:
    """The name of a method, of which others end in one of `PANELS`."""
    for ending in PANELS:
        name = name.removesuffix(ending)
    return name


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
            ways[panel][plain(name)] = x, y
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
            group[plain(method)] = round(value, 1)
    return plots.bars(groups, ylabel="percent", colors=colors)
