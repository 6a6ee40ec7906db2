"""Names of LOL's reference values, and those of CD, DoLa, ICD and TruthfulQA."""

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax import decoding, evaluation, numerics
from contrastive_jax.methods import lol


def plausibility_mask(inputs, args):
    keep = decoding.plausible(
        inputs["logits"],
        float(args["relative_top"]),
        min_tokens=args["min_tokens_to_keep"],
    )
    return {"rejected": ~keep}


def contrastive_decoding_scores(inputs, args):
    scores = decoding.contrast(
        inputs["expert_logits"],
        inputs["amateur_logits"],
        alpha=float(args["alpha"]),
        weight=float(args["st_coef"]),
        amateur_temperature=float(args["amateur_temperature"]),
    )
    return {"scores": scores, "argmax": jnp.argmax(scores, axis=-1)}


def before_answer(logits, args):
    """Logits that predict the answer: those one position before its tokens."""
    return logits[..., args["prefix_len"] - 1 : -1, :]


def answer_score(scores, logits, inputs, args):
    """Sum over the answer; normalized first, then tokens filtered, if asked for."""
    if args["post_softmax"]:
        scores = jax.nn.log_softmax(scores, axis=-1)
    keep = decoding.plausible(logits, float(args["relative_top"]))
    scores = jnp.where(keep, scores, float(args["relative_top_value"]))
    answer = inputs["input_ids"][args["prefix_len"] :]
    return jnp.sum(numerics.at_columns(scores, answer))


def dola_score(inputs, args):
    last = before_answer(inputs["mature_logits"], args)
    early = before_answer(inputs["premature_logits"], args)
    answer = inputs["input_ids"][args["prefix_len"] :]

    def score(layers):
        scores = decoding.layer_contrast(last, layers, alpha=0.0)
        return answer_score(scores, last, inputs, args)

    divergences = [
        decoding.layer_divergences(last, early, reverse=reverse)
        for reverse in (True, False)
    ]
    log_probs = jax.nn.log_softmax(last, axis=-1)
    return {
        "log_prob": score(early),
        "static_log_prob_first_layer": score(early[:1]),
        "baseline_log_prob": jnp.sum(numerics.at_columns(log_probs, answer)),
        "chosen_layer_index": decoding.premature_layer(last, early),
        "chosen_by_jsd": decoding.premature_layer(last, early, reverse=False),
        "divergence_official": divergences[0],
        "jsd": divergences[1],
    }


def icd_score(inputs, args):
    base = before_answer(inputs["base_logits"], args)
    amateur = before_answer(inputs["amateur_logits"], args)
    scores = decoding.contrast(base, amateur, alpha=0.0)
    return {"log_prob": answer_score(scores, base, inputs, args)}


def icd_next_token(inputs, args):
    scores = decoding.contrast(
        inputs["base_logits"],
        inputs["amateur_logits"],
        alpha=float(args["relative_top"]),
    )
    return {"logits": scores, "argmax": jnp.argmax(scores, axis=-1)}


def lol_logits(inputs, args):
    names = ("final", "lower")
    pairs = [inputs[f"{who}_{x}"] for x in names for who in ("base", "amateur")]
    weights = {name: float(args[name]) for name in ("lam", "gamma", "alpha", "beta")}
    scores = lol.lol_scores(*pairs, inputs["base_final_truth"], **weights)
    log_probs = jax.nn.log_softmax(scores, axis=-1)
    return {"scores": scores, "log_probs": log_probs, "argmax": jnp.argmax(scores)}


def truthfulqa_mc(inputs, args):
    sides = (np.asarray(inputs[f"scores_{x}"]) for x in ("true", "false"))
    found = evaluation.truthfulqa_mc(*sides, args["best_index"])
    names = ("mc1", "mc2", "mc3")
    return {name: jnp.asarray(x) for name, x in zip(names, found, strict=True)}


ADAPTERS = {
    "contrastive_decoding_scores": contrastive_decoding_scores,
    "dola_score": dola_score,
    "icd_next_token": icd_next_token,
    "icd_score": icd_score,
    "lol_logits": lol_logits,
    "plausibility_mask": plausibility_mask,
    "truthfulqa_mc": truthfulqa_mc,
}
