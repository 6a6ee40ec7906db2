"""Texts to embeddings, and F1 at the best threshold on their cosines, by field."""

import functools

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from contrastive_jax import evaluation, losses, models
from contrastive_jax.methods import moe
from contrastive_jax.tasks import language_models, sentences, text_encoders
from experiments.moe import data
from experiments.moe import model as networks


def make_model(config, axis_name=None):
    """The encoder; `axis_name` spreads its experts over devices."""
    m, e = config.model, config.experts
    experts = dict(count=e.count, routing=e.routing, top_k=e.top_k, axis_name=axis_name)
    sizes = dict(
        vocab_size=m.vocab_size + len(config.data.fields),
        width=m.width,
        mlp_width=m.mlp_width,
    )
    if config.data.name == "pilot":
        return networks.TokenEncoder(experts, **sizes)
    more = dict(
        depth=m.depth, heads=m.heads, max_length=m.max_length, dropout=m.dropout
    )
    return networks.Encoder(experts, mixed_layers(config), **sizes, **more)


def mixed_layers(config):
    """Numbers of the layers that have experts."""
    depth = config.model.depth
    return (depth // 2,) if config.experts.layers == "middle" else tuple(range(depth))


def embed(
    config,
    network,
    params,
    tokens,
    where,
    field,
    *,
    expert=None,
    capacity=None,
    keys=None,
):
    """Embeddings [n, d] of texts of given fields, and scores of the routers.

    `expert` is given to another expert than the field's own.
    """
    if config.data.tags:
        names = config.model.vocab_size + jnp.arange(len(config.data.fields))
        tokens = moe.replace_first_with_field_token(tokens, field, names)
    assignment = field if expert is None else expert
    out = network.apply(
        {"params": params["encoder"]},
        tokens,
        where=where,
        assignment=assignment if config.experts.count > 1 else 0 * assignment,
        capacity=capacity,
        keys=keys,
    )
    if config.data.name == "pilot":
        return out.last[:, 0], out.scores
    pooled = models.pool_mean(out.last, where)
    if config.pooler.head:
        pooled = moe.pooled_head(params["pooler"], pooled)
    return pooled, out.scores


def router_losses(config, scores, where, field):
    """Balance, information and supervision of the routers, by name."""
    count = len(config.data.fields)
    by_token = len(scores[0]) == where.size
    task = jnp.repeat(field, where.shape[1]) if by_token else field
    counts = where.reshape(-1) if by_token else jnp.ones(len(task), bool)
    every = jnp.concatenate(scores)
    several = functools.partial(jnp.tile, reps=len(scores))
    mean = jnp.mean(jnp.stack(scores), axis=0)
    found = {
        "balance": losses.load_balancing(every, where=several(counts)),
        "information": losses.router_mutual_information(
            every, several(task), num_tasks=count, where=several(counts)
        ),
    }
    if mean.shape[1] == count:
        columns = jnp.broadcast_to(counts[:, None], mean.shape)
        found["supervision"] = losses.info_nce(mean, task, where=columns)
    return found


def make_encode(config, state, shift=0):
    """`encode(rows of texts) -> [n, d]`; `shift` is added to the numbers of experts."""
    corpus = data.corpus(config)
    run = compiled(ml_collections.FrozenConfigDict(config))

    def encode(rows):
        texts = data.rows(config, corpus) | {"field": corpus.field}
        return language_models.in_batches(
            lambda own: run(state.params, own, shift)[0],
            {name: x[rows] for name, x in texts.items()},
            config.eval.batch_size,
        )

    return encode


@functools.cache
def compiled(config):
    """`f(params, texts, shift) -> (embeddings, scores of the routers)`."""
    network, count = make_model(config), len(config.data.fields)

    @jax.jit
    def run(params, texts, shift):
        tokens, where, field = (texts[k] for k in ("tokens", "where", "field"))
        expert = (field + shift) % count
        return embed(config, network, params, tokens, where, field, expert=expert)

    return run


def routes(config, state):
    """Share of each field's tokens that the last router gives each expert first."""
    corpus, run = data.corpus(config), compiled(ml_collections.FrozenConfigDict(config))
    texts = data.rows(config, corpus) | {"field": corpus.field}
    shares = []
    for k in range(len(config.data.fields)):
        rows = np.flatnonzero(corpus.field == k)[: config.eval.batch_size]
        own = {name: x[rows] for name, x in texts.items()}
        scores = np.asarray(run(state.params, own, 0)[1][-1])
        first, where = scores.argmax(axis=1), own["where"].reshape(-1)
        first = first[where] if len(where) == len(first) else first
        shares.append(np.bincount(first, minlength=scores.shape[1]) / len(first))
    return np.array(shares)


def evaluate(config, encode):
    """F1 (%) of each field and of all with one threshold; AUC (%), and of collapse.

    Returns:
      by name: each field, "mean" and "all" (F1), "auc" (mean of the fields), "cosine"
      (mean of all pairs of texts) and "rank" (effective rank of the embeddings).
    """
    results, scores, labels, vectors = {}, [], [], []
    for k, field in enumerate(config.data.fields):
        z, cosines, own = scored(config, encode, k)
        results[field] = 100 * evaluation.best_f1(cosines, own).f1
        scores.append(cosines)
        labels.append(own)
        vectors.append(z)
    auc = [evaluation.auroc(s[y], s[~y]) for s, y in zip(scores, labels, strict=True)]
    z = np.concatenate(vectors)
    return results | {
        "mean": float(np.mean([*results.values()])),
        "all": 100 * evaluation.best_f1(*map(np.concatenate, (scores, labels))).f1,
        "auc": 100 * float(np.mean(auc)),
        "cosine": float(evaluation.average_cosine(z)),
        "rank": float(evaluation.effective_rank(z)),
    }


def scored(config, encode, field):
    """Unit vectors of a field's texts, the cosines of its pairs, which are positive."""
    pairs, labels = data.tested(config, field)
    rows, places = np.unique(pairs, return_inverse=True)
    z = sentences.unit(encode(rows))
    a, b = (z[i] for i in places.reshape(-1, 2).T)
    return z, np.clip(np.sum(a * b, axis=1), -1, 1), labels


def joined(config, encoders):
    """Each text by the encoder of its field."""
    field = data.corpus(config).field

    def encode(rows):
        own = field[rows]
        found = [(own == k, encoders[k](rows[own == k])) for k in np.unique(own)]
        out = np.zeros((len(rows), found[0][1].shape[1]), np.float32)
        for where, z in found:
            out[where] = z
        return out

    return encode


def tfidf(config):
    """TF-IDF of words and pairs of words, counted in the texts that are trained on."""
    c = data.corpus(config)
    rows = np.unique(c.pairs[c.split < data.SPLITS.index(config.eval.split)])
    counted = TfidfVectorizer(sublinear_tf=True, dtype=np.float32)
    counted.fit([c.texts[i] for i in rows])
    return lambda rows: counted.transform([c.texts[i] for i in rows]).toarray()


def minilm(config):
    """all-MiniLM-L6-v2, trained on a billion other pairs."""
    c, encoder = data.corpus(config), text_encoders.load(text_encoders.packaged())
    encode = functools.partial(
        text_encoders.encoder,
        encoder.recipe,
        encoder.params,
        encoder.tokenizer,
        config.data.length,
    )()
    return lambda rows: np.asarray(jax.device_get(encode([c.texts[i] for i in rows])))


REFERENCES = {"tfidf": tfidf, "minilm": minilm}
