"""Names of MoE-Sim's reference values, in terms of the library."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax import evaluation, losses, models, similarity
from contrastive_jax.methods import moe


def mnr(inputs, args):
    a, b = inputs["a"], inputs["b"]
    if args["normalize"]:
        a, b = similarity.l2_normalize(a), similarity.l2_normalize(b)
    scores = similarity.dot(a, b) / float(args["temperature"])
    return {"loss": losses.info_nce(scores)}


def mnr_plus(inputs, args):
    loss = moe.argmax_target_contrastive(
        inputs["a"],
        inputs["b"],
        normalize=args["normalize"],
        temperature=float(args.get("temperature", 1.0)),
        target_scale=float(args.get("temperature", 1.0)),
    )
    return {"loss": loss}


def mnr_plus_plus(inputs, args):
    loss = moe.soft_target_contrastive(
        inputs["a"],
        inputs["b"],
        temperature=float(args["temp_logit"]),
        target_scale=float(args["temp_target"]),
        normalize=args["normalize"],
    )
    return {"loss": loss}


def load_balancing_loss(inputs, args):
    logits = inputs["router_logits"]
    loss = losses.load_balancing(logits.reshape(-1, logits.shape[-1]))
    return {"loss": abs(args["weight"]) * loss}


def specified_expert_loss(inputs, args):
    logits = jnp.mean(inputs["router_logits"], axis=0)
    return {"loss": args["weight"] * losses.info_nce(logits, inputs["labels"])}


def mutual_information_loss(inputs, args):
    loss = losses.router_mutual_information(
        inputs["router_logits"],
        inputs["labels"],
        num_tasks=args["num_tasks"],
        top_k=args["topk"],
        eps=args["eps"],
    )
    return {"loss": args["weight"] * loss}


def mutual_information_loss_stateful(inputs, args):
    out, logits = {}, inputs["router_logits"]
    gate = jnp.zeros((args["num_tasks"], logits.shape[1]), logits.dtype)
    for end in ("", "_2"):
        loss, gate = moe.summed_mutual_information(
            gate,
            inputs[f"router_logits{end}"],
            inputs["labels"],
            top_k=args["topk"],
            eps=args["eps"],
        )
        out |= {f"loss{end}": args["weight"] * loss, f"gate{end}": gate}
    return out


def experts(inputs):
    """The MLPs' matrices are stored [out, in]."""
    turned = {name: jnp.swapaxes(inputs[name], 1, 2) for name in ("w1", "w2")}
    return {
        "up": {"kernel": turned["w1"], "bias": inputs["b1"]},
        "down": {"kernel": turned["w2"], "bias": inputs["b2"]},
    }


def enforced(inputs, args):
    x, assignment = inputs["x"], inputs["assignment"]
    y = models.moe_enforced(experts(inputs), x, assignment, models.gelu_expert)
    return {"y": y}


def routed(inputs, args, *, layer, **options):
    """All but the switch take so many experts."""
    if layer is not models.moe_sentence_switch:
        options["top_k"] = args["topk"]
    gate = inputs["gate"].T
    y, router_logits = layer(
        experts(inputs), inputs["x"], gate, models.gelu_expert, **options
    )
    return {"y": y, "router_logits": router_logits}


def glu_expert(inputs, args):
    x, params = inputs["x"], {"in": inputs["wi"].T, "out": inputs["wo"].T}
    exact = functools.partial(jax.nn.gelu, approximate=False)
    rows = x.reshape(-1, x.shape[-1])
    return {"y": models.glu_expert(params, rows, activation=exact).reshape(x.shape)}


def pooler(inputs, args):
    params = {
        "norm": {"scale": inputs["ln_scale"], "bias": inputs["ln_bias"]},
        "down": {"kernel": inputs["w1"].T, "bias": inputs["b1"]},
        "up": {"kernel": inputs["w2"].T, "bias": inputs["b2"]},
    }
    pooled = models.pool_mean(inputs["x"], inputs["attention_mask"] > 0)
    return {"y": moe.pooled_head(params, pooled, epsilon=args["ln_eps"])}


def max_f1(inputs, args):
    scores = np.clip(np.asarray(inputs["scores"]), *args["clip"])
    best = evaluation.best_f1(scores, np.asarray(inputs["labels"]) > 0)
    names = ("f1", "precision", "recall", "threshold")
    return {name: jnp.asarray(getattr(best, name)) for name in names}


ADAPTERS = {
    "mnr": mnr,
    "mnr_plus": mnr_plus,
    "clip_loss_argmax_targets": mnr_plus,
    "mnr_plus_plus": mnr_plus_plus,
    "load_balancing_loss": load_balancing_loss,
    "specified_expert_loss": specified_expert_loss,
    "mutual_information_loss": mutual_information_loss,
    "mutual_information_loss_stateful": mutual_information_loss_stateful,
    "moe_enforced_sentence": enforced,
    "moe_enforced_token": enforced,
    "moe_sentence_switch": functools.partial(routed, layer=models.moe_sentence_switch),
    "moe_sentence_topk": functools.partial(routed, layer=models.moe_sentence_top_k),
    "moe_token_topk": functools.partial(routed, layer=models.moe_token_top_k),
    "glu_expert": glu_expert,
    "pooler": pooler,
    "max_f1": max_f1,
}
