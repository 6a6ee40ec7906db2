"""F1 at the best threshold on the cosine, by field; baselines that are not trained."""

import functools

import jax
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from contrastive_jax import evaluation
from contrastive_jax.tasks import sentences, text_encoders
from experiments.moe import data


def in_batches(run, texts, rows, size):
    """Embeddings of some texts, so many at a time, the last batch filled up."""
    found = []
    for i in range(0, len(rows), size):
        own = rows[i : i + size]
        filled = np.resize(own, size)
        batch = {name: x[filled] for name, x in texts.items()}
        found.append(np.asarray(run(batch))[: len(own)])
    return np.concatenate(found)


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
