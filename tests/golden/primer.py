"""Names of the primer's reference values, in terms of the library."""

import jax.numpy as jnp

from contrastive_jax import ebm, losses, pairs, similarity

SIMILARITIES = {
    "cosine": similarity.cosine,
    "dot": similarity.dot,
    "euclidean": similarity.euclidean,
    "neg_sq_euclidean": similarity.squared_euclidean,
}


def cosine_logits(inputs, args):
    return similarity.cosine(inputs["z_a"], inputs["z_b"]) / args["temperature"]


def nce_binary(inputs, args):
    shift = float(args["gamma"])
    return {"loss": ebm.binary_nce(inputs["pos"], inputs["neg"], shift=shift)}


def nce_ranking(inputs, args):
    return {"loss": ebm.ranking_nce(inputs["pos"], inputs["neg"])}


def noise(inputs):
    return {
        "positive_log_noise": inputs["lp"],
        "negative_log_noise": inputs["ln"],
    }


def nce_binary_noise_corrected(inputs, args):
    return {"loss": ebm.binary_nce(inputs["pos"], inputs["neg"], **noise(inputs))}


def nce_ranking_noise_corrected(inputs, args):
    return {"loss": ebm.ranking_nce(inputs["pos"], inputs["neg"], **noise(inputs))}


def info_nce(inputs, args):
    scores = SIMILARITIES[args["similarity"]](inputs["z_a"], inputs["z_b"])
    loss = losses.two_way_info_nce if args["symmetric"] else losses.info_nce
    return {"loss": loss(scores / args["temperature"])}


def nt_xent(inputs, args):
    z = jnp.concatenate([inputs["z_a"], inputs["z_b"]])
    return {"loss": losses.nt_xent(similarity.cosine(z, z) / args["temperature"])}


def row_distances(a, b):
    """Distance between each row of a and the same row of b."""
    return jnp.diagonal(similarity.euclidean_distance(a, b))


def pair_margin(inputs, args):
    loss = losses.pair_margin(
        row_distances(inputs["a"], inputs["b"]),
        inputs["labels"] > 0,
        margin=float(args["margin"]),
        factor=1.0,
    )
    return {"loss": loss}


def triplet(inputs, args):
    loss = losses.triplet(
        row_distances(inputs["a"], inputs["p"]),
        row_distances(inputs["a"], inputs["n"]),
        margin=float(args["margin"]),
    )
    return {"loss": loss}


def labeled_logits(inputs, args):
    logits = similarity.cosine(inputs["z"], inputs["z"]) / args["temperature"]
    return logits, pairs.same_label(inputs["labels"])


def supervised_contrastive(inputs, args):
    logits, positives = labeled_logits(inputs, args)
    others = ~jnp.eye(positives.shape[0], dtype=bool)
    loss = losses.supervised_contrastive(
        logits, positives, where=others, form=args["variant"]
    )
    return {"loss": loss}


def ce_plus_supcon(inputs, args):
    logits, _ = labeled_logits(inputs, args)
    loss = losses.cross_entropy_supervised_contrastive(
        inputs["logits"], inputs["labels"], logits, ratio=float(args["weight"])
    )
    return {"loss": loss}


def soft_target_cross_entropy(inputs, args):
    return {"loss": losses.soft_target_cross_entropy(inputs["S"], inputs["T"])}


def byol_regression(inputs, args):
    return {"loss": losses.byol(inputs["p"], inputs["z"])}


def barlow_twins(inputs, args):
    loss = losses.barlow_twins(
        inputs["z_a"],
        inputs["z_b"],
        off_diagonal=float(args["lambda_offdiag"]),
        eps=float(args["eps"]),
    )
    return {"loss": loss}


def debiased_info_nce(inputs, args):
    loss = losses.debiased_info_nce(
        cosine_logits(inputs, args),
        class_prior=float(args["class_prior"]),
        temperature=float(args["temperature"]),
    )
    return {"loss": loss}


def decoupled_info_nce(inputs, args):
    return {"loss": losses.decoupled_info_nce(cosine_logits(inputs, args))}


def energy_hinge(inputs, args):
    loss = ebm.energy_hinge(
        inputs["pos_energy"], inputs["neg_energy"], margin=float(args["margin"])
    )
    return {"loss": loss}


def input_label_matching(inputs, args):
    loss = ebm.input_label_matching(
        inputs["S"], inputs["labels"] > 0, where=inputs["mask"] > 0
    )
    return {"loss": loss}


ADAPTERS = {
    "nce_binary": nce_binary,
    "nce_ranking": nce_ranking,
    "nce_binary_noise_corrected": nce_binary_noise_corrected,
    "nce_ranking_noise_corrected": nce_ranking_noise_corrected,
    "info_nce": info_nce,
    "nt_xent": nt_xent,
    "pair_margin": pair_margin,
    "triplet": triplet,
    "supervised_contrastive": supervised_contrastive,
    "soft_target_cross_entropy": soft_target_cross_entropy,
    "byol_regression": byol_regression,
    "barlow_twins": barlow_twins,
    "debiased_info_nce": debiased_info_nce,
    "decoupled_info_nce": decoupled_info_nce,
    "energy_hinge": energy_hinge,
    "input_label_matching": input_label_matching,
    "ce_plus_supcon": ce_plus_supcon,
}
