"""Names of the sentence-transformers reference values, in terms of the library."""

import jax.numpy as jnp

from contrastive_jax import losses, pairs, similarity

SIMILARITIES = {"cosine": similarity.cosine, "dot": similarity.dot}
DISTANCES = {
    "cosine": similarity.cosine_distance,
    "euclidean": similarity.euclidean_distance,
    "eucledian": similarity.euclidean_distance,
    "manhattan": similarity.manhattan_distance,
}


def distance(args):
    """The classes name the same distances in several ways: COSINE, cosine_distance."""
    return DISTANCES[args["distance"].lower().removesuffix("_distance")]


def paired(kind, a, b):
    """Scores or distances of row i of a with row i of b."""
    return jnp.diagonal(kind(a, b))


def documents(inputs):
    """The positives, then each set of negatives."""
    names = [n for n in inputs if n.startswith("negative_")]
    negatives = sorted(names, key=lambda n: int(n.removeprefix("negative_")))
    return [inputs["positive"], *(inputs[n] for n in negatives)]


def own_scores(inputs, args):
    """Scores of each query with its positive and its negatives, [n, 1 + k]."""
    kind = SIMILARITIES[args.get("similarity", "dot")]
    columns = [paired(kind, inputs["query"], x) for x in documents(inputs)]
    return jnp.stack(columns, axis=1)


def hardness(args, scores, n, copies):
    """Log-weights of the documents of the query-to-document direction."""
    mode = args.get("hardness_mode")
    if mode is None:
        return jnp.zeros_like(scores)
    own = jnp.tile(jnp.eye(n, dtype=bool), (1, copies))
    first = jnp.arange(scores.shape[1])[None, :] < n
    chosen = {
        "in_batch_negatives": ~own,
        "hard_negatives": own & ~first,
        "all_negatives": ~(own & first),
    }[mode]
    strength = float(args.get("hardness_strength", 0))
    return losses.hardness_log_weights(scores, chosen, strength=strength)


def mnr(inputs, args):
    scale, kind = args["scale"], SIMILARITIES[args.get("similarity", "cosine")]
    query, docs = inputs["query"], documents(inputs)
    every, n = jnp.concatenate(docs), query.shape[0]
    eye = jnp.eye(n, dtype=bool)
    scores = {
        "query_to_doc": kind(query, every),
        "query_to_query": kind(query, query),
        "doc_to_query": kind(docs[0], query),
        "doc_to_doc": kind(docs[0], every),
    }
    where = {
        "query_to_doc": jnp.ones_like(scores["query_to_doc"], bool),
        "query_to_query": ~eye,
        "doc_to_query": jnp.ones((n, n), bool),
        "doc_to_doc": jnp.tile(~eye, (1, len(docs))),
    }
    log_weights = {k: jnp.zeros_like(v) for k, v in scores.items()}
    log_weights["query_to_doc"] = hardness(args, scores["query_to_doc"], n, len(docs))
    chosen = args.get("directions", ["query_to_doc"])
    directions = [k for k in scores if k == "query_to_doc" or k in chosen]
    own = jnp.diagonal(scores["query_to_doc"])[:, None]
    if args.get("partition_mode", "joint") == "joint":
        groups = [directions]
    else:
        groups = [[direction] for direction in directions]
    parts = []
    for group in groups:
        # The positive's column first; it is not summed over a second time.
        joined = jnp.concatenate([own, *(scores[k] for k in group)], axis=1)
        tilt = jnp.concatenate(
            [jnp.zeros_like(own), *(log_weights[k] for k in group)], axis=1
        )
        counts = jnp.concatenate(
            [jnp.ones_like(own, bool), *(where[k] for k in group)], axis=1
        )
        first = jnp.zeros(n, jnp.int32)
        parts.append(
            losses.decoupled_info_nce(scale * joined + tilt, first, where=counts)
        )
    return {"loss": jnp.mean(jnp.stack(parts))}


def targets(inputs):
    """Labels that may be whole numbers, as real numbers."""
    return inputs["labels"].astype(float)


def cosent(inputs, args):
    scores = paired(similarity.cosine, inputs["a"], inputs["b"])
    return {"loss": losses.cosent(args["scale"] * scores, targets(inputs))}


def angle(inputs, args):
    loss = losses.angle_loss(**inputs_ab(inputs), temperature=1 / args["scale"])
    return {"loss": loss}


def inputs_ab(inputs):
    return {"a": inputs["a"], "b": inputs["b"], "targets": targets(inputs)}


def cosine_similarity_mse(inputs, args):
    return {"loss": losses.cosine_similarity_mse(**inputs_ab(inputs))}


def pair_distances(inputs, args):
    kind = distance(args)
    return paired(kind, inputs["a"], inputs["b"]), inputs["labels"] == 1


def contrastive_margin(inputs, args):
    loss = losses.pair_margin(
        *pair_distances(inputs, args),
        margin=float(args["margin"]),
        reduce_fn=jnp.mean if args.get("size_average", True) else jnp.sum,
    )
    return {"loss": loss}


def online_contrastive(inputs, args):
    loss = losses.online_contrastive(
        *pair_distances(inputs, args), margin=float(args["margin"])
    )
    return {"loss": loss}


def triplet(inputs, args):
    kind, anchor = distance(args), inputs["anchor"]
    loss = losses.triplet(
        paired(kind, anchor, inputs["positive"]),
        paired(kind, anchor, inputs["negative"]),
        margin=float(args["margin"]),
    )
    return {"loss": loss}


def batch(inputs, args):
    """Distances, positives and the mask that leaves oneself out."""
    z, labels = inputs["z"], inputs["labels"]
    return {
        "distances": distance(args)(z, z),
        "positives": pairs.same_label(labels),
        "where": ~jnp.eye(labels.size, dtype=bool),
    }


def batch_all_triplet(inputs, args):
    options = dict(margin=float(args["margin"]), average="nonzero")
    return {"loss": losses.triplet_batch_all(**batch(inputs, args), **options)}


def batch_with_oneself(inputs, args):
    """Everyone is a positive of itself, at distance 0, as in the batch-hard classes."""
    return {**batch(inputs, args), "where": None, "incomplete": "keep"}


def batch_hard_triplet(inputs, args):
    options = batch_with_oneself(inputs, args)
    loss = losses.triplet_batch_hard(**options, margin=float(args["margin"]))
    return {"loss": loss}


def batch_semi_hard_triplet(inputs, args):
    options = dict(margin=float(args["margin"]), incomplete="keep")
    return {"loss": losses.triplet_semi_hard(**batch(inputs, args), **options)}


def batch_hard_soft_margin_triplet(inputs, args):
    options = batch_with_oneself(inputs, args)
    return {"loss": losses.triplet_batch_hard(**options, margin=0.0, soft=True)}


def mega_batch_margin(inputs, args):
    loss = losses.mega_batch_margin(
        similarity.cosine(inputs["a"], inputs["b"]),
        positive_margin=float(args["positive_margin"]),
        negative_margin=float(args["negative_margin"]),
    )
    return {"loss": loss}


def margin_mse(inputs, args):
    scores, teacher = own_scores(inputs, args), inputs["labels"]
    if teacher.shape == scores.shape:
        margins = teacher[:, :1] - teacher[:, 1:]
    else:
        margins = teacher.reshape(scores.shape[0], -1)
    return {"loss": losses.margin_mse(scores[:, 0], scores[:, 1:], margins)}


def distill_kl(inputs, args):
    loss = losses.distillation_kl(
        own_scores(inputs, args),
        inputs["labels"],
        temperature=float(args["temperature"]),
    )
    return {"loss": loss}


ADAPTERS = {
    "mnr": mnr,
    "cosent": cosent,
    "angle": angle,
    "cosine_similarity_mse": cosine_similarity_mse,
    "contrastive_margin": contrastive_margin,
    "online_contrastive": online_contrastive,
    "triplet": triplet,
    "batch_all_triplet": batch_all_triplet,
    "batch_hard_triplet": batch_hard_triplet,
    "batch_semi_hard_triplet": batch_semi_hard_triplet,
    "batch_hard_soft_margin_triplet": batch_hard_soft_margin_triplet,
    "margin_mse": margin_mse,
    "distill_kl": distill_kl,
    "mega_batch_margin": mega_batch_margin,
}
