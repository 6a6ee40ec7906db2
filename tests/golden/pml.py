"""Names of the pytorch-metric-learning reference values, in terms of the library."""

import math

import jax.numpy as jnp

from contrastive_jax import losses, pairs, similarity


def batch(inputs):
    """Unit embeddings, positives and the mask that leaves oneself out."""
    labels = inputs["labels"]
    masks = {
        "positives": pairs.same_label(labels),
        "where": ~jnp.eye(labels.size, dtype=bool),
    }
    return similarity.l2_normalize(inputs["z"]), masks


def cosines(inputs):
    z, masks = batch(inputs)
    return similarity.dot(z, z), masks


def distances(inputs):
    z, masks = batch(inputs)
    return similarity.euclidean_distance(z, z), masks


def squared_distances(inputs):
    z, masks = batch(inputs)
    return similarity.squared_euclidean_distance(z, z), masks


def average(args):
    return "nonzero" if args["reducer"].startswith("avg_non_zero") else "all"


def ntxent(inputs, args):
    scores, masks = cosines(inputs)
    logits = scores / args["temperature"]
    return {"loss": losses.multi_positive_info_nce(logits, **masks, over="pairs")}


def supcon(inputs, args):
    scores, masks = cosines(inputs)
    # The library returns 0 for a batch of one class.
    masks["where"] = masks["where"] & jnp.any(~masks["positives"])
    loss = losses.supervised_contrastive(
        scores / args["temperature"], **masks, count_all=args["reducer"] == "mean"
    )
    return {"loss": loss}


def triplet_margin(inputs, args):
    scores, masks = distances(inputs)
    loss = losses.triplet_batch_all(
        scores,
        **masks,
        swap_distances=scores if args["swap"] else None,
        margin=float(args["margin"]),
        soft=args["smooth_loss"],
        average=average(args),
    )
    return {"loss": loss}


def multi_similarity(inputs, args):
    scores, masks = cosines(inputs)
    options = {k: float(args[k]) for k in ("alpha", "beta", "base")}
    return {"loss": losses.multi_similarity(scores, **masks, **options)}


def circle(inputs, args):
    scores, masks = cosines(inputs)
    options = dict(margin=float(args["m"]), gamma=float(args["gamma"]))
    return {"loss": losses.circle_loss(scores, **masks, **options)}


def contrastive_cosine(inputs, args):
    z, masks = batch(inputs)
    loss = losses.contrastive_margin(
        similarity.cosine_distance(z, z),
        **masks,
        positive_margin=1.0 - args["pos_margin"],
        negative_margin=1.0 - args["neg_margin"],
        average=average(args),
    )
    return {"loss": loss}


def generalized_lifted_structure(inputs, args):
    scores, masks = distances(inputs)
    loss = losses.generalized_lifted_structure(
        scores,
        **masks,
        positive_margin=float(args["pos_margin"]),
        negative_margin=float(args["neg_margin"]),
        incomplete="keep",
    )
    return {"loss": loss}


def npairs(inputs, args):
    z, _ = batch(inputs)
    positives, anchors = pairs.first_pair(inputs["labels"])
    return {"loss": losses.n_pairs(z, z[positives], where=anchors)}


def nca(inputs, args):
    scores, masks = squared_distances(inputs)
    return {"loss": losses.nca(-args["softmax_scale"] * scores, **masks)}


def intra_pair_variance(inputs, args):
    scores, masks = cosines(inputs)
    slacks = {
        "positive_slack": float(args["pos_eps"]),
        "negative_slack": float(args["neg_eps"]),
    }
    return {"loss": losses.intra_pair_variance(scores, **masks, **slacks)}


def tuplet_margin(inputs, args):
    scores, masks = cosines(inputs)
    loss = losses.tuplet_margin(
        scores,
        **masks,
        margin=math.radians(args["margin_degrees"]),
        scale=float(args["scale"]),
    )
    return {"loss": loss}


def fast_ap(inputs, args):
    scores, masks = squared_distances(inputs)
    return {"loss": losses.fast_ap(scores, **masks, num_bins=args["num_bins"])}


def proxy_anchor(inputs, args):
    loss = losses.proxy_anchor(
        similarity.cosine(inputs["z"], inputs["proxies"]),
        inputs["labels"],
        margin=float(args["margin"]),
        alpha=float(args["alpha"]),
    )
    return {"loss": loss}


def proxy_nca(inputs, args):
    scores = similarity.squared_euclidean_distance(
        similarity.l2_normalize(inputs["z"]),
        similarity.l2_normalize(inputs["proxies"]),
    )
    logits = -args["softmax_scale"] * scores
    loss = losses.proxy_nca(logits, inputs["labels"], positive_in_denominator=True)
    return {"loss": loss}


def arcface(inputs, args):
    loss = losses.arcface(
        similarity.cosine(inputs["z"], inputs["W"].T),
        inputs["labels"],
        margin=math.radians(args["margin_degrees"]),
        scale=float(args["scale"]),
    )
    return {"loss": loss}


def cosface(inputs, args):
    loss = losses.cosface(
        similarity.cosine(inputs["z"], inputs["W"].T),
        inputs["labels"],
        margin=float(args["margin"]),
        scale=float(args["scale"]),
    )
    return {"loss": loss}


def normalized_softmax(inputs, args):
    scores = similarity.cosine(inputs["z"], inputs["W"].T)
    options = dict(temperature=float(args["temperature"]))
    return {"loss": losses.normalized_softmax(scores, inputs["labels"], **options)}


def vicreg(inputs, args):
    loss = losses.vicreg(
        inputs["z_a"],
        inputs["z_b"],
        invariance=float(args["invariance_lambda"]),
        variance=float(args["variance_mu"]),
        covariance=float(args["covariance_v"]),
        eps=args["eps"],
    )
    return {"loss": loss}


def simclr_ntxent_symmetric(inputs, args):
    views = jnp.concatenate([inputs["z_a"], inputs["z_b"]])
    logits = similarity.cosine(views, views) / args["temperature"]
    return {"loss": losses.nt_xent(logits)}


ADAPTERS = {
    "ntxent": ntxent,
    "supcon_avg_non_zero": supcon,
    "supcon_mean": supcon,
    "triplet_margin": triplet_margin,
    "multi_similarity": multi_similarity,
    "circle": circle,
    "contrastive_cosine": contrastive_cosine,
    "generalized_lifted_structure": generalized_lifted_structure,
    "npairs": npairs,
    "nca": nca,
    "proxy_anchor": proxy_anchor,
    "proxy_nca": proxy_nca,
    "arcface": arcface,
    "cosface": cosface,
    "normalized_softmax": normalized_softmax,
    "intra_pair_variance": intra_pair_variance,
    "tuplet_margin": tuplet_margin,
    "fast_ap": fast_ap,
    "vicreg": vicreg,
    "simclr_ntxent_symmetric": simclr_ntxent_symmetric,
}
