"""Names of SupReMix's reference values, in terms of the library."""

import jax
import jax.numpy as jnp

from contrastive_jax import losses, similarity
from contrastive_jax.methods import supremix

KINDS = {
    "none": "none",
    "L1_inv": "linear",
    "L2_inv": "square",
    "L1": "inverse_linear",
    "L2": "inverse_square",
}


def two_views(inputs):
    """Rows of both views, first views first, and gaps of their labels."""
    z = jnp.concatenate(list(inputs["features"].swapaxes(0, 1)))
    labels = jnp.tile(inputs["labels"], inputs["features"].shape[1])
    return z, labels[None, :] - labels[:, None]


def supremix_mixtures(inputs, args):
    found = supremix.supremix_mixtures(**inputs, window=float(args["window"]))
    n, _, _, d = found.embeddings.shape
    return {
        "mixtures": found.embeddings.reshape(n, -1, d),
        "mask": found.kind.reshape(n, -1),
        "mixture_labels": found.labels.reshape(n, -1),
    }


def weighted_supervised_contrastive(inputs, args):
    z, gaps = two_views(inputs)
    weight = KINDS[args["weight"]]
    loss = losses.weighted_supervised_contrastive(
        similarity.dot(z, z) / args["temperature"],
        gaps == 0,
        supremix.label_distance_weight(gaps, kind=weight),
        where=~jnp.eye(len(z), dtype=bool),
    )
    return {"loss": loss}


def supremix_loss(inputs, args):
    """The shares lambda are read from the labels of the mixtures."""
    z, gaps = two_views(inputs)
    n = len(z)
    labels = inputs["mixture_labels"].reshape(n, n, n)
    own = jnp.diagonal(labels, axis1=0, axis2=1).T  # j = i
    mixed = own - jnp.tile(inputs["labels"], 2)[:, None]  # (1 - lambda) gap
    lam = jnp.where(gaps == 0, 0, 1 - mixed / jnp.where(gaps == 0, 1, gaps))
    loss = supremix.supremix(
        z,
        z,
        gaps,
        lam=lam,
        window=float(args["window"]),
        temperature=float(args["temperature"]),
        weight=KINDS[args["weight"]],
    )
    return {"loss": loss}


def supremix_loss_two_max(inputs, args):
    """As released: mixtures less a maximum of their own, and a gap moved by 1."""
    z, gaps = two_views(inputs)
    logits = similarity.dot(z, z) / args["temperature"]
    mixed = jnp.einsum("nkd,nd->nk", inputs["mixtures"], z) / args["temperature"]
    logits, mixed = (
        x - jax.lax.stop_gradient(jnp.max(x, axis=1, keepdims=True))
        for x in (logits, mixed)
    )
    labels = jnp.tile(inputs["labels"], 2)[:, None]
    mixed_gaps = inputs["mixture_labels"] - labels
    if args["weight"] == "L2_inv":
        mixed_gaps = mixed_gaps - 1
    kind, weight = inputs["mask"], KINDS[args["weight"]]
    loss = losses.weighted_supervised_contrastive(
        jnp.concatenate([logits, mixed], axis=1),
        jnp.concatenate([gaps == 0, kind == 1], axis=1),
        supremix.label_distance_weight(
            jnp.concatenate([gaps, mixed_gaps], axis=1), kind=weight
        ),
        where=jnp.concatenate([~jnp.eye(len(z), dtype=bool), kind >= 0], axis=1),
    )
    return {"loss": loss}


def rank_n_contrast(inputs, args):
    x, labels = inputs["features"], inputs["labels"]
    loss = losses.rank_n_contrast(
        similarity.euclidean(x, x) / args["temperature"],
        jnp.abs(labels[:, None] - labels[None, :]),
        where=~jnp.eye(len(x), dtype=bool),
    )
    return {"loss": loss}


ADAPTERS = {
    "supremix_mixtures": supremix_mixtures,
    "weighted_supervised_contrastive": weighted_supervised_contrastive,
    "supremix_loss": supremix_loss,
    "supremix_loss_two_max": supremix_loss_two_max,
    "rank_n_contrast": rank_n_contrast,
}
