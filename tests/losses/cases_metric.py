"""Contract cases of losses/margin.py."""

import jax.numpy as jnp
import numpy as np

from contrastive_jax import losses, pairs, similarity

from .cases import Case, classes, unit
from .cases_in_batch import without_positives


def positive_mask(rng, n):
    """Every anchor has a positive and, with the last two candidates, negatives."""
    positives = rng.random((n, n + 3)) < 0.4
    positives[:, 0], positives[:, 1], positives[:, -1] = True, False, False
    return positives


def distances(rng, n):
    """Distances of n anchors to n + 3 candidates; the last one is a near negative."""
    x = rng.uniform(0.2, 2.0, size=(n, n + 3))
    x[:, -1] = rng.uniform(0.1, 0.15, size=n)
    return {"distances": x, "positives": positive_mask(rng, n)}


def distances_between(rng, n):
    """The last candidate at a middle distance, where semi-hard negatives are."""
    inputs = distances(rng, n)
    inputs["distances"][:, -1] = rng.uniform(1.0, 1.1, size=n)
    return inputs


def distances_and_swap(rng, n):
    """Distances, also of the candidates to each other."""
    return {
        **distances(rng, n),
        "swap_distances": rng.uniform(0.2, 2.0, size=(n + 3, n + 3)),
    }


def cosines(rng, n):
    """Cosines of n anchors to n + 3 candidates; the last one is a near negative."""
    x = rng.uniform(-0.9, 0.9, size=(n, n + 3))
    x[:, -1] = rng.uniform(0.92, 0.98, size=n)
    return {"scores": x, "positives": positive_mask(rng, n)}


def logits(rng, n):
    inputs = cosines(rng, n)
    return {"logits": 5 * inputs["scores"], "positives": inputs["positives"]}


def columns(rng, n):
    inputs = cosines(rng, n)
    return {"scores": inputs["scores"], "labels": rng.integers(0, n + 2, n)}


def given_triplets(rng, n):
    names = ("positive_distances", "negative_distances", "swap_distances")
    return {name: rng.uniform(0.5, 1.0, size=n) for name in names}


def given_pairs(rng, n):
    """Matching and other pairs in turn, overlapping in distance."""
    return {
        "distances": rng.uniform(0.2, 0.6, size=n),
        "positives": np.arange(n) % 2 == 0,
    }


def square_distances(rng, n):
    labels = classes(rng, n)
    x = rng.uniform(0.2, 2.0, size=(n, n))
    same = (labels[:, None] == labels[None, :]) & ~np.eye(n, dtype=bool)
    return {"distances": (x + x.T) / 2, "positives": same}


def two_sides(rng, n):
    return {name: rng.normal(size=(n, 4)) for name in SIDES}


def unit_sides(rng, n):
    return {name: unit(x) for name, x in two_sides(rng, n).items()}


def unit_triplets(rng, n):
    return {
        **unit_sides(rng, n),
        "negative_embeddings": unit(rng.normal(size=(n + 2, 4))),
    }


def gathered_as(name, kind):
    """Both views against both views of all; four examples share a class."""

    def gathered(a, b, gather, rows):
        local = jnp.concatenate([a, b])
        everyone = jnp.concatenate([gather(a), gather(b)])
        own = jnp.concatenate([rows, rows + gather(a).shape[0]])
        labels = jnp.concatenate([rows, rows]) // 4
        return {
            name: kind(local, everyone),
            "positives": pairs.same_label(labels, jnp.tile(gather(rows) // 4, 2)),
            "where": ~pairs.one_column(own, everyone.shape[0]),
        }

    return gathered


def gathered_with_swap(a, b, gather, rows):
    everyone = jnp.concatenate([gather(a), gather(b)])
    swap = similarity.euclidean_distance(everyone, everyone)
    return {**gathered_distances(a, b, gather, rows), "swap_distances": swap}


def gathered_columns(a, b, gather, rows):
    return {"scores": similarity.cosine(a, gather(b)), "labels": rows}


def gathered_all(name, kind):
    """A loss of the whole batch: every device computes all of it."""

    def gathered(a, b, gather, rows):
        return gathered_as(name, kind)(gather(a), gather(b), lambda x: x, gather(rows))

    return gathered


def gathered_pairs(a, b, gather, rows):
    d = similarity.euclidean_distance(gather(a), gather(b))
    return {"distances": jnp.diagonal(d), "positives": gather(rows) % 2 == 0}


def gathered_sides(a, b, gather, rows):
    return {"anchors": gather(a), "positive_embeddings": gather(b)}


def gathered_triplets(a, b, gather, rows):
    others = gather(b)
    where = ~pairs.one_column(rows, others.shape[0])
    return {
        "anchors": a,
        "positive_embeddings": b,
        "negative_embeddings": others,
        "where": where,
    }


gathered_distances = gathered_as("distances", similarity.euclidean_distance)
gathered_cosines = gathered_as("scores", similarity.cosine)

DISTANCES = {"distances": "n m", "positives": "n m"}
SCORES = {"scores": "n m", "positives": "n m"}
TRIPLETS = {
    "positive_distances": "n",
    "negative_distances": "n",
    "swap_distances": "n",
}
SIDES = {"anchors": "n d", "positive_embeddings": "n d"}


def of_distances(loss, make=distances, **options):
    """The case of a loss of distances and positives that is 0 without positives."""
    defaults = dict(gathered=gathered_distances, without_positives=without_positives)
    return Case(loss, DISTANCES, make, ("distances",), **{**defaults, **options})


def of_scores(loss, **options):
    """The case of a loss of cosines and positives that is 0 without positives."""
    defaults = dict(gathered=gathered_cosines, without_positives=without_positives)
    return Case(loss, SCORES, cosines, ("scores",), **{**defaults, **options})


CASES = {
    "triplet": Case(
        losses.triplet,
        TRIPLETS,
        given_triplets,
        tuple(TRIPLETS),
        where="n",
        options={"margin": 1.0},
        corners=({"soft": True}, {"average": "nonzero"}, {"margin": -9.0}),
    ),
    "triplet_batch_all": Case(
        losses.triplet_batch_all,
        {**DISTANCES, "swap_distances": "m m"},
        distances_and_swap,
        ("distances", "swap_distances"),
        without_positives=without_positives,
        options={"margin": 0.3},
        corners=({"margin": -9.0}, {"average": "nonzero"}, {"soft": True}),
        gathered=gathered_with_swap,
    ),
    "triplet_batch_hard": of_distances(
        losses.triplet_batch_hard, corners=({"incomplete": "keep", "soft": True},)
    ),
    "triplet_semi_hard": of_distances(
        losses.triplet_semi_hard,
        make=distances_between,
        options={"margin": 1.0},
        corners=({"incomplete": "keep", "soft": True},),
    ),
    "pair_margin": Case(
        losses.pair_margin,
        {"distances": "n", "positives": "n"},
        given_pairs,
        ("distances",),
        where="n",
    ),
    "online_contrastive": Case(
        losses.online_contrastive,
        {"distances": "n", "positives": "n"},
        given_pairs,
        ("distances",),
        where="n",
        gathered=gathered_pairs,
    ),
    "contrastive_margin": of_distances(
        losses.contrastive_margin,
        without_positives=None,
        corners=({"average": "nonzero"}, {"negative_margin": -1.0}),
    ),
    "mega_batch_margin": Case(
        losses.mega_batch_margin,
        {"scores": "n m", "labels": "n"},
        columns,
        ("scores",),
        columns=("labels",),
        gathered=gathered_columns,
    ),
    "n_pairs": Case(
        losses.n_pairs,
        SIDES,
        two_sides,
        tuple(SIDES),
        where="n",
        options={"l2_weight": 0.1},
        gathered=gathered_sides,
    ),
    "lifted_structure": Case(
        losses.lifted_structure,
        {"distances": "n n", "positives": "n n"},
        square_distances,
        ("distances",),
        where="n n",
        without_positives=without_positives,
        gathered=gathered_all("distances", similarity.euclidean_distance),
    ),
    "generalized_lifted_structure": of_distances(
        losses.generalized_lifted_structure, corners=({"incomplete": "keep"},)
    ),
    "multi_similarity": of_scores(losses.multi_similarity, without_positives=None),
    # The gradient with constant weights is no derivative: see test_margin.
    "circle_loss": of_scores(
        losses.circle_loss,
        options={"gamma": 8.0, "constant_weights": False},
        corners=({"gamma": 256.0, "constant_weights": True},),
    ),
    "tuplet_margin": of_scores(losses.tuplet_margin, options={"scale": 8.0}),
    "intra_pair_variance": of_scores(
        losses.intra_pair_variance,
        without_positives=None,
        gathered=gathered_all("scores", similarity.cosine),
    ),
    "nca": Case(
        losses.nca,
        {"logits": "n m", "positives": "n m"},
        logits,
        ("logits",),
        without_positives=without_positives,
        gathered=gathered_as("logits", similarity.dot),
    ),
    "fast_ap": of_distances(
        losses.fast_ap, options={"max_distance": 2.0, "num_bins": 6}
    ),
    "angular_loss": Case(
        losses.angular_loss,
        {**SIDES, "negative_embeddings": "m d"},
        unit_triplets,
        (*SIDES, "negative_embeddings"),
        gathered=gathered_triplets,
    ),
}
