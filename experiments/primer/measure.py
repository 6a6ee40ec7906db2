"""What is measured: the long tail, texts of unseen labels, and log-ratios of NCE."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse
from scipy.special import logsumexp
from sklearn.feature_extraction.text import TfidfTransformer

from contrastive_jax import evaluation, training
from contrastive_jax.tasks.sentences import unit
from experiments.primer import data, model

# Objectives that see texts alone: their scores are cosines to the means of labels.
OF_INPUTS = ("nt_xent", "supcon", "triplet", "vicreg")
# Objectives that train a softmax over labels: their scores are its log-chances.
OF_SOFTMAX = ("cross_entropy", "ranking", "distillation")


class Embedded(NamedTuple):
    """Unit embeddings under one method.

    Attributes:
      parts: of the texts of each part, [n, d].
      labels: of the texts of all labels, [c, d].
      scores: of test texts against the seen labels, as the method is used; None for
        cosines to the means of the labels.
    """

    parts: dict[str, Any]
    labels: np.ndarray
    scores: np.ndarray | None


@functools.partial(jax.jit, static_argnums=0)
def encode(net, params, tokens):
    """Embeddings [n, d] of texts."""
    return net.apply({"params": params}, tokens, tokens > 0)


def embed(config, net, params, parts) -> Embedded:
    """Embeddings of the texts of some parts and of all labels."""
    texts = data.texts_of(config)
    params = {k: jax.device_get(v) for k, v in params.items()}
    raw = {p: np.asarray(encode(net, params, texts.tokens[p])) for p in parts}
    named = unit(np.asarray(encode(net, params, texts.label_tokens)))
    units, scores = {part: unit(x) for part, x in raw.items()}, None
    if config.loss.objective == "cross_entropy":
        scores = raw[parts[1]] @ params["label_vectors"].T + params["label_bias"]
    elif config.loss.objective not in OF_INPUTS:
        own = named[: texts.seen]
        if not config.loss.label_text:
            own = unit(params["label_vectors"])
        scores = units[parts[1]] @ own.T / config.loss.temperature
    if config.loss.objective in OF_SOFTMAX:
        scores = scores - logsumexp(scores, axis=1, keepdims=True)
    return Embedded(units, named, scores)


def parts_of(split: str) -> tuple[str, str, str]:
    """Training texts, those of seen labels and those of unseen ones."""
    return "train", split, f"unseen_{split}"


def means(x: Any, labels: np.ndarray, count: int) -> np.ndarray:
    """Direction of the mean of each label's rows, [count, d]; rows may be sparse."""
    places = (np.ones(len(labels)), (labels, np.arange(len(labels))))
    total = sparse.csr_matrix(places, (count, len(labels))) @ x
    return unit(total.toarray() if isinstance(total, sparse.csr_matrix) else total)


def precisions(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Average precision of each label among all texts, [c]."""
    relevant = labels[None, :] == np.arange(scores.shape[1])[:, None]
    found = evaluation.average_precision(
        jnp.asarray(scores.T, jnp.float32), jnp.asarray(relevant), reduce_fn=None
    )
    return np.asarray(found)


def few_shot(x: Any, labels: np.ndarray, shots: int, draws: int) -> float:
    """Share of texts nearest to their label's mean of a few texts, over draws."""
    names, labels = np.unique(labels, return_inverse=True)
    shares = []
    for draw in range(draws):
        order = np.random.default_rng(draw).permutation(len(labels))
        order = order[np.argsort(labels[order], kind="stable")]
        place = np.arange(len(order)) - np.searchsorted(labels[order], labels[order])
        known, asked = order[place < shots], order[place >= shots]
        centers = means(x[known], labels[known], len(names))
        best = (x[asked] @ centers.T).argmax(axis=1)
        shares.append(np.mean(best == labels[asked]))
    return float(np.mean(shares))


def judge(config, embedded: Embedded, split: str) -> tuple[dict[str, float], Any]:
    """Measures in percent, the rank of embeddings; average precision of each label."""
    texts, (_, seen, unseen) = data.texts_of(config), parts_of(split)
    x, labels = embedded.parts[seen], texts.labels[seen]
    centers = means(embedded.parts["train"], texts.labels["train"], texts.seen)
    by_means = x @ centers.T
    scores = by_means if embedded.scores is None else embedded.scores
    own, rare = precisions(scores, labels), np.arange(texts.seen) >= texts.seen // 2
    novel, truth = embedded.parts[unseen], texts.labels[unseen]
    names = np.unique(truth)
    told = names[(novel @ embedded.labels[names].T).argmax(axis=1)]
    shots, draws = config.eval.shots, config.eval.draws
    values = {
        "rare_ap": own[rare].mean(),
        "rare_ap_means": precisions(by_means, labels)[rare].mean(),
        "accuracy": np.mean(scores.argmax(axis=1) == labels),
        "few_shot": few_shot(novel, truth, shots, draws),
        "zero_shot": np.mean(told == truth),
    }
    return {key: 100 * float(value) for key, value in values.items()}, own


def shape(x: np.ndarray) -> dict[str, float]:
    """How the embeddings lie: collapse has rank 1 and mean cosine 1."""
    return {
        "effective_rank": float(evaluation.effective_rank(jnp.asarray(x))),
        "mean_cosine": float(evaluation.average_cosine(jnp.asarray(x))),
    }


def evals(config, make_model):
    """What is measured while a method is trained, on validation texts."""
    net, parts = make_model(config), parts_of("validation")

    def watch(state):
        embedded = embed(config, net, state.params, parts)
        values, _ = judge(config, embedded, "validation")
        return values | shape(embedded.parts["validation"])

    return {"validation": watch}


def words(config, split: str) -> Embedded:
    """Texts as weighted counts of their words, without training."""
    texts = data.texts_of(config)

    def counts(tokens):
        rows, columns = np.nonzero(tokens)
        places = (np.ones(len(rows)), (rows, tokens[rows, columns]))
        return sparse.csr_matrix(places, (len(tokens), len(texts.vocabulary)))

    weigh: Any = TfidfTransformer().fit(counts(texts.tokens["train"]))
    tables = {p: weigh.transform(counts(texts.tokens[p])) for p in parts_of(split)}
    named = weigh.transform(counts(texts.label_tokens)).toarray()
    return Embedded(tables, named, tables[split] @ named[: texts.seen].T)


def evaluate(config, trained, make_model, init):
    """Measures of every method, of the encoder before training, of words, of chance."""
    split, results, by_label = config.eval.split, {}, {}
    texts, parts = data.texts_of(config), parts_of(config.eval.split)

    def add(name, embedded):
        results_of, by_label[name] = judge(config, embedded, split)
        if name != "words":
            results_of |= shape(embedded.parts[split])
        results.update({f"{name}/{key}": x for key, x in results_of.items()})

    for name, (own, state) in trained.items():
        add(name, embed(own, make_model(own), state.params, parts))
    first = training.changed(config, {"loss.objective": "ranking"})
    add("untrained", embed(first, make_model(first), init(first).params, parts))
    add("words", words(config, split))
    novel = 100 / len(np.unique(texts.labels[f"unseen_{split}"]))
    results |= {"chance/few_shot": novel, "chance/zero_shot": novel}
    return results, by_label


def log_ratios(scores: np.ndarray) -> np.ndarray:
    """Scores less their mean in each context."""
    return scores - scores.mean(axis=1, keepdims=True)


def outcome_scores(config, state, make_model) -> np.ndarray:
    """Learned scores of all contexts and outcomes."""
    contexts = jnp.arange(len(model.truth_of(config).scores))
    return np.asarray(make_model(config).apply({"params": state.params}, contexts))


def nce(config, trained, make_model):
    """Error of learned log-ratios (nats), and of the chances they give."""
    truth, results = model.truth_of(config).scores, {}
    for name, (own, state) in trained.items():
        scores = outcome_scores(own, state, make_model)
        gaps = np.abs(log_ratios(scores) - log_ratios(truth))
        p, q = (np.asarray(jax.nn.softmax(x)) for x in (truth, scores))
        results[f"{name}/log_ratio_error"] = float(gaps.mean())
        results[f"{name}/largest_error"] = float(gaps.max())
        results[f"{name}/total_variation"] = float(np.abs(p - q).sum(axis=1).mean() / 2)
    return results
