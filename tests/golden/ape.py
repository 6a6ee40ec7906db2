"""Names of APE's reference values, in terms of the library."""

import jax.numpy as jnp
import numpy as np

from contrastive_jax import ebm
from contrastive_jax.methods import ape


def bias_of(inputs, args):
    """The constant of the model, which is differentiated by but given as a number."""
    return inputs.setdefault("bias", jnp.asarray(float(args["bias"])))


def weights_of(inputs, args):
    return None if args.get("no_weight") else inputs["pair_weights"]


def ape_score(inputs, args):
    offsets = np.asarray(inputs["offsets"])
    model = (inputs["embeddings"], weights_of(inputs, args))
    bias = bias_of(inputs, args)
    score = ape.ape_score(inputs["events"], *model, offsets=offsets, bias=bias)
    log_partition = ape.ape_log_partition(*model, offsets=offsets)
    return {
        "score": score,
        "anomaly_score": -score,
        "log_partition": log_partition,
        "log_prob": score - bias - log_partition,
    }


def ape_nce_loss(inputs, args):
    offsets, events = np.asarray(inputs["offsets"]), inputs["events"]
    index = int(args["replaced_type"])
    bias = bias_of(inputs, args)

    def score(x):
        return ape.ape_score(
            x,
            inputs["embeddings"],
            weights_of(inputs, args),
            offsets=offsets,
            bias=bias,
        )

    def logits(x):
        noise = ape.event_log_noise(x, index, inputs["log_noise"], offsets=offsets)
        return score(x) - noise

    replacements = inputs["replacement"].reshape(len(events), -1)
    mixed = ape.apply_replacement(events, index, replacements)
    positive, negative = logits(events), logits(mixed)
    return {
        "score": score(events),
        "negatives": mixed.reshape(-1, events.shape[1]),
        "score_neg": score(mixed).reshape(-1),
        "logit_pos": positive,
        "logit_neg": negative.reshape(-1),
        "loss": ebm.negative_sampling(positive, negative),
    }


def noise_distribution(inputs, args):
    return {
        "sampling_probs": ebm.unigram_noise(
            inputs["counts"], power=float(args["power"])
        ),
        "unigram_probs": ebm.unigram_noise(inputs["counts"], power=1.0),
    }


ADAPTERS = {
    "ape_nce_loss": ape_nce_loss,
    "ape_score": ape_score,
    "noise_distribution": noise_distribution,
}
