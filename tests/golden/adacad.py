"""Names of AdaCAD's reference values, and those of CAD and COIECD."""

import jax
import jax.numpy as jnp

from contrastive_jax import decoding
from contrastive_jax.methods import adacad


def two(inputs):
    return inputs["context_logits"], inputs["no_context_logits"]


def decided(logits, **more):
    log_probs = jax.nn.log_softmax(logits, axis=-1)
    return {
        "logits": logits,
        "log_probs": log_probs,
        "argmax": jnp.argmax(logits, axis=-1),
        **more,
    }


def jsd_nats(inputs, args):
    p, q = inputs["logits_p"], inputs["logits_q"]
    return {
        "jsd": decoding.js_divergence(p, q),
        "jsd_bits": decoding.js_divergence(p, q, base=2.0),
    }


def cad_logits(inputs, args):
    return decided(decoding.context_aware(*two(inputs), alpha=float(args["alpha"])))


def adacad_logits(inputs, args):
    base = {"nats": {}, "bits": {"base": 2.0}}[args["jsd_unit"]]
    values = dict(min_alpha=float(args["threshold"]), **base)
    alpha = adacad.adacad_alpha(*two(inputs), **values)
    return decided(adacad.adacad_logits(*two(inputs), **values), alpha=alpha)


def filter_logits_top_p(inputs, args):
    """The nucleus; the branch with the negative weight has +1000 for other tokens."""
    logits = inputs["logits"]
    inside = jnp.isfinite(decoding.top_p(logits, float(args["top_p"])))
    fill = 1000.0 if args["negative_multiplier"] else -1000.0
    return {"filtered": jnp.where(inside, logits, fill)}


def coiecd_logits(inputs, args):
    ratio = float(args["ratio"])
    scores = decoding.entropy_constrained(
        *two(inputs), alpha=float(args["alpha"]), ratio=ratio
    )
    inside = decoding.within_bounds(two(inputs)[0], ratio=ratio)
    return decided(scores, in_set=inside.astype(scores.dtype))


ADAPTERS = {
    "adacad_logits": adacad_logits,
    "cad_logits": cad_logits,
    "coiecd_logits": coiecd_logits,
    "filter_logits_top_p": filter_logits_top_p,
    "jsd_nats": jsd_nats,
}
