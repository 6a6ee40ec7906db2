"""Adapters of PALM: assignments, losses with their new prototypes, scores."""

import jax.numpy as jnp

from contrastive_jax import evaluation, losses, pairs, similarity, states
from contrastive_jax.methods import palm


def sinkhorn_assignment(inputs, args):
    scores = similarity.dot(inputs["features"], inputs["prototypes"])
    options = dict(epsilon=args["epsilon"], num_iterations=args["iterations"])
    return {"assignment": losses.sinkhorn(scores, eps=palm.EPS, **options)}


def palm_loss(inputs, args):
    vectors = inputs["prototypes"]
    start = states.Prototypes(vectors=vectors, used=jnp.zeros(len(vectors), bool))
    loss, parts, new = palm.palm(
        start,
        inputs["features"],
        inputs["labels"],
        num_classes=args["num_classes"],
        topk=args["topk"],
        decay=args["proto_momentum"],
        temperature=args["temperature"],
        contrast=args["lambda_pcon"],
        contrast_temperature=args["contra_temperature"],
        epsilon=args["epsilon"],
        num_iterations=args["sinkhorn_iterations"],
        released=True,
    )
    return {
        "loss": loss,
        "mle": parts["mle"],
        "proto_contra": parts["pcon"],
        "new_prototypes": new.vectors,
    }


def palm_mle_loss(inputs, args):
    out = palm_loss(inputs, args)
    return {"loss": out["mle"], "new_prototypes": out["new_prototypes"]}


def prototype_contrastive_loss(inputs, args):
    p = inputs["prototypes"]
    same = pairs.same_label(jnp.arange(len(p)) % args["num_classes"])
    loss = palm.prototype_contrast(p, same, temperature=args["temperature"])
    return {"loss": loss}


def mahalanobis_ood_score(inputs, args):
    """On the host; the released code subtracts the mean twice."""
    scores = {
        side: evaluation.mahalanobis_scores(
            inputs["train_features"], inputs[f"{side}_features"], recenter=True
        )
        for side in ("id", "ood")
    }
    measures = evaluation.ood_metrics(scores["id"], scores["ood"])
    return {
        "id_scores": scores["id"],
        "ood_scores": scores["ood"],
        "fpr95": measures["fpr95"],
        "auroc": measures["auroc"],
    }


ADAPTERS = {
    "sinkhorn_assignment": sinkhorn_assignment,
    "palm_loss": palm_loss,
    "palm_mle_loss": palm_mle_loss,
    "prototype_contrastive_loss": prototype_contrastive_loss,
    "mahalanobis_ood_score": mahalanobis_ood_score,
}
