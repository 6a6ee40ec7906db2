"""Vectors of definitions, entries made of them, and how isotropic these are."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax import evaluation, transforms
from contrastive_jax.evaluation.checks import few_threads
from contrastive_jax.methods import defsent
from contrastive_jax.models.pretrained import encoders
from contrastive_jax.tasks import sentences, text_encoders
from experiments.defsent import data

CHUNK = 256  # rows at a time


def make_recipe(config, pooling):
    """The encoder of a config with a pooler, its vectors as they are."""
    recipe = text_encoders.make_recipe(config.model)
    return dataclasses.replace(recipe, pooling=(pooling,), normalize=False)


@functools.partial(jax.jit, static_argnums=0)
def embed_rows(recipe, params, tokens, where):
    """One chunk of rows."""
    return encoders.embed(recipe, params, tokens, where)


def embed(recipe, params, rows) -> np.ndarray:
    """Vectors of rows of tokens, without dropout, as a recipe pools them."""
    count = len(rows["tokens"])
    out = []
    for start in range(0, count, CHUNK):
        part = [rows[name][start : start + CHUNK] for name in ("tokens", "where")]
        room = [(0, CHUNK - len(part[0])), (0, 0)]
        out.append(embed_rows(recipe, params, *(np.pad(x, room) for x in part)))
    return np.concatenate([np.asarray(x) for x in out])[:count]


def encoder_of(config, params, tokenizer):
    """Texts to vectors, cut at the length of the rows that are learned."""
    recipe, length = make_recipe(config, config.loss.pooling), config.data.length

    def encode(texts):
        rows = text_encoders.rows(tokenizer, list(texts), length)
        return embed(recipe, params, rows)

    return encode


def make_entries(config, params, rows) -> np.ndarray:
    """The matrix of entries by an encoder, as it is."""
    vectors = embed(make_recipe(config, config.loss.entries), params, rows)
    count = config.data.entries
    entries = defsent.entry_embeddings(vectors, rows["labels"], num_entries=count)
    return np.asarray(entries)


def prepare(config, entries) -> np.ndarray:
    """Entries as definitions are compared with them: components of them, or scaled.

    With `loss.scale` > 0 that is the deviation of a column, in the root of the mean
    square over all columns; components have `loss.component_scale` in each.

    Components have any order and sign. Where the layer on definitions' vectors starts
    as the identity, they are turned as a whole onto the entries, as close as can be.
    """
    own = config.loss
    if not own.isotropic:
        deviation = np.sqrt(np.mean(np.var(entries, axis=0)))
        return entries * (own.scale / deviation) if own.scale else entries
    with few_threads(entries):
        components = defsent.isotropic_entries(
            entries,
            seed=42,
            scale=own.component_scale,
            num_iterations=own.iterations,
        ).astype(np.float32)
    if own.layer != "identity":
        return components
    centered = jnp.asarray(entries - entries.mean(axis=0))
    turn = transforms.procrustes_rotation(jnp.asarray(components), centered)
    return components @ np.asarray(turn)


def isotropy(matrix) -> dict[str, float]:
    """Mean cosine of the rows, ratio of partition functions, effective rank.

    The ratio is of rows of mean length 1, since it depends on the scale.
    """
    return {name: float(x) for name, x in isotropy_of(matrix).items()}


@jax.jit
def isotropy_of(matrix):
    """`isotropy` as one program."""
    length = jnp.mean(jnp.linalg.norm(matrix, axis=1))
    return {
        "mean_cosine": evaluation.average_cosine(matrix),
        "partition_ratio": evaluation.isotropy(matrix / length),
        "effective_rank": evaluation.effective_rank(matrix),
    }


def cosines(matrix, count=2000) -> np.ndarray:
    """Cosines of so many random pairs of different rows."""
    rng, unit = np.random.default_rng(0), sentences.unit(matrix)
    first = rng.integers(len(unit), size=count)
    second = (first + rng.integers(1, len(unit), size=count)) % len(unit)
    return np.sum(unit[first] * unit[second], axis=1)


def watch(config, tokenizer):
    """`evals` of `training.train`: held-out entries of validation."""
    pair = data.other_definitions(config, "validation", config.eval.watch)

    def look(state):
        return sentences.retrieval(encoder_of(config, state.params, tokenizer), pair)

    return lambda _: {"validation": look}


def measures(config, params, tokenizer) -> dict[str, float]:
    """Retrieval of an entry's other definition, and correlations, in percent."""
    encode = encoder_of(config, params, tokenizer)
    split = config.eval.split
    pair = data.other_definitions(config, split)
    found = sentences.retrieval(encode, pair)
    recipe = make_recipe(config, config.loss.pooling)
    shape = isotropy(encode(pair.documents))
    # Whole texts; the rows are cut.
    whole = text_encoders.encoder(recipe, params, tokenizer, recipe.model.max_length)
    more = sentences.evaluate(whole, sets=config.eval.sets)
    scored = data.path_pairs(config, split)
    if scored.first:
        found["path"] = sentences.correlations(encode, scored)["spearman"]
    found |= {k.partition("/")[0]: v for k, v in more.items() if "spearman" in k}
    return found | shape
