"""What SupReMix's features are worth: errors of readouts, order of labels, collapse."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax import search, similarity
from contrastive_jax.data.batches import Rows
from contrastive_jax.evaluation import (
    average_cosine,
    effective_rank,
    ridge_probe,
    spearman,
)
from contrastive_jax.tasks import images
from experiments.supremix import data

BINS = 10  # of the range of labels, for slices and curves


class Split(NamedTuple):
    """Features and labels of some rows."""

    features: np.ndarray
    label: np.ndarray


@jax.jit
def run_encoder(encode: jax.tree_util.Partial, x: jax.Array) -> jax.Array:
    """Outputs for rows of a set; variables in a Partial are arguments, traced."""
    return encode(images.to_unit(x) if x.ndim > 2 else x)


def encode(encode: Callable, rows: Rows, limit: int = 0) -> Split:
    """Outputs of a frozen network for the rows (the first `limit`) of a set."""
    batch, total = 500, min(limit or rows.total, rows.total)
    if not isinstance(encode, jax.tree_util.Partial):
        encode = jax.tree_util.Partial(encode)
    features, labels = [], []
    for start in range(0, total, batch):
        part = rows.read(np.arange(start, min(start + batch, total)))
        x, label = part["x"], part["label"]
        padding = [(0, batch - len(x))] + [(0, 0)] * (x.ndim - 1)
        out = run_encoder(encode, np.pad(x, padding))  # one shape, one compilation
        features.append(np.asarray(out)[: len(x)])
        labels.append(label)
    return Split(np.concatenate(features), np.concatenate(labels))


def readout(
    train: Split, test: Split, scale: float, few_labels: int
) -> dict[str, float]:
    """Errors of ridge regression on frozen features.

    Args:
      train: rows it is fitted to.
      test: rows that are reported on.
      scale: size of the unit of labels, in that of the errors.
      few_labels: how many training rows "mae_few_labels" sees.

    Returns:
      mae, r2; mae of the test rows whose labels are rare and common (`density_slices`);
      mae_few_labels; ordinality, see `ordinality`.
    """

    def fitted(rows):
        result = ridge_probe(
            train.features[rows], train.label[rows], test.features, test.label
        )
        return np.abs(result.predictions - test.label), result.score

    errors, r2 = fitted(slice(None))
    few, _ = fitted(slice(few_labels))
    slices = density_slices(train.label, test.label)
    return {
        "mae": scale * float(errors.mean()),
        "r2": float(r2),
        **{
            f"mae_{name}": scale * float(errors[rows].mean())
            for name, rows in slices.items()
        },
        "mae_few_labels": scale * float(few.mean()),
        "ordinality": ordinality(test),
    }


def density_slices(train: np.ndarray, test: np.ndarray) -> dict[str, np.ndarray]:
    """Test rows with rare and with common labels, as a mask each.

    The range of training labels is cut into 10 bins. Rare are the emptiest bins that
    hold a quarter of the training rows at most (at least one bin), common the rest.

    Examples:
      >>> train = np.array([0.0] * 8 + [10.0] * 2)
      >>> density_slices(train, np.array([0.0, 9.9]))["rare"]
      array([False,  True])
    """
    edges = np.linspace(train.min(), train.max(), BINS + 1)[1:-1]
    counts = np.bincount(np.digitize(train, edges), minlength=BINS)
    of_test = np.digitize(test, edges)
    seen = np.intersect1d(np.flatnonzero(counts), of_test)  # bins of test rows
    order = seen[np.argsort(counts[seen], kind="stable")]
    share = np.cumsum(counts[order]) / len(train)
    rare = np.isin(of_test, order[: max(1, int(np.sum(share <= 0.25)))])
    return {"rare": rare, "common": ~rare}


def ordinality(rows: Split, limit: int = 600) -> float:
    """Spearman correlation of label and feature distances of pairs, in [-1, 1]."""
    z = _unit(rows.features[:limit])
    i, j = np.triu_indices(len(z), 1)
    gaps = np.abs(rows.label[i] - rows.label[j])
    return spearman(gaps, -np.sum(z[i] * z[j], axis=1))


def ordinality_curve(rows: Split, limit: int = 600) -> tuple[list, list]:
    """Mean cosine of pairs of features against the distance of their labels.

    Returns:
      mean distance of the labels, mean cosine; of each bin that holds a pair.
    """
    z = _unit(rows.features[:limit] - rows.features.mean(axis=0))
    i, j = np.triu_indices(len(z), 1)
    gaps = np.abs(rows.label[i] - rows.label[j])
    cosines = np.sum(z[i] * z[j], axis=1)
    edges = np.linspace(0, max(gaps.max(), 1e-9), BINS + 1)[1:-1]
    place = np.digitize(gaps, edges)
    counts = np.bincount(place, minlength=BINS)
    there = counts > 0
    totals = (np.bincount(place, x, minlength=BINS) for x in (gaps, cosines))
    x, y = ((total[there] / counts[there]).tolist() for total in totals)
    return x, y


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


@jax.jit
def collapse(features: jax.Array) -> dict[str, jax.Array]:
    """Effective rank of centered features, mean cosine of features as they are."""
    return {
        "effective_rank": effective_rank(
            features - jnp.mean(features, axis=0, keepdims=True)
        ),
        "mean_cosine": average_cosine(features),
    }


@functools.partial(jax.jit, static_argnames="k")
def nearest_labels(bank: Any, asked: Any, *, k: int) -> jax.Array:
    """Mean label of the k nearest rows by cosine."""
    a, b = (similarity.l2_normalize(x) for x in (asked, bank.features))
    _, rows = search.nearest_neighbors(a, b, k=k)
    return jnp.mean(bank.label[rows], axis=1)


def watch(config, frozen: Callable) -> dict[str, float]:
    """Error of the nearest training rows on held-out ones, and signs of collapse.

    "knn_mae" in the unit reported; "effective_rank" of the features without their
    mean; "mean_cosine" of them as they are.
    """
    found, rows = data.of(config), config.watch.rows
    bank = encode(frozen, found.train, rows)
    asked = encode(frozen, found.held_out, rows) if found.held_out.total else bank
    predicted = nearest_labels(bank, asked.features, k=config.eval.k)
    errors = np.abs(np.asarray(predicted) - asked.label)
    signs = {key: float(x) for key, x in collapse(jnp.asarray(asked.features)).items()}
    return {"knn_mae": found.scale * float(errors.mean()), **signs}
