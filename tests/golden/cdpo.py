"""Adapters of the cDPO collection: preferences by token and by sequence."""

import jax.numpy as jnp
import numpy as np

from contrastive_jax import evaluation, losses
from contrastive_jax.methods import cdpo

LOGPS = {
    "chosen": "policy_chosen_logps",
    "rejected": "policy_rejected_logps",
    "reference_chosen": "ref_chosen_logps",
    "reference_rejected": "ref_rejected_logps",
}


def preferred(inputs):
    return {name: inputs[stored] for name, stored in LOGPS.items()}


def rewards(given, beta):
    return {
        f"{side}_rewards": losses.implicit_rewards(
            given[side], given[f"reference_{side}"], beta=beta
        )
        for side in ("chosen", "rejected")
    }


def token_logps(inputs, args):
    logits, labels = inputs["logits"][:, :-1], inputs["labels"][:, 1:]
    ignored = args["label_ignore"]
    found = losses.token_log_probs(logits, labels, ignore_index=ignored)
    return {
        "per_token_logps": found,
        "mask": labels != ignored,
        "sum_logps": jnp.sum(found, axis=1),
    }


def contrastive_estimation_score(inputs, args):
    score = cdpo.contrastive_estimation_score(
        inputs["pos_logits"][:, :-1],
        inputs["neg_logits"][:, :-1],
        inputs["input_ids"][:, 1:],
        beta=args["beta"],
    )
    return {"score": score}


def cdpo_token_loss(inputs, args):
    given = preferred(inputs)
    parts = {**given, "rejected_weights": inputs["rejected_weights"]}
    if not args["only_neg"]:
        parts["chosen_weights"] = inputs["chosen_weights"]
    options = dict(
        beta=args["beta"], label_smoothing=args["label_smoothing"], form="token"
    )
    shape = given["chosen"].shape
    single = {name: x.reshape(-1, 1) for name, x in parts.items()}
    each = cdpo.cdpo(**single, **options, reduce_fn=None)
    return {
        "losses": each.reshape(shape),
        "loss": cdpo.cdpo(**parts, **options),
        **rewards(given, args["beta"]),
    }


def cdpo_sequence_loss(inputs, args):
    masks = {s: inputs[f"{s}_mask"] > 0 for s in ("chosen", "rejected")}
    loss = cdpo.cdpo(
        **preferred(inputs),
        rejected_weights=cdpo.cdpo_weights(inputs["score"], masks["rejected"]),
        chosen_tokens=masks["chosen"],
        rejected_tokens=masks["rejected"],
        beta=args["beta"],
    )
    return {"loss": loss}


def dpo_loss(inputs, args):
    given = preferred(inputs)
    options = dict(label_smoothing=args["label_smoothing"])
    if args["ipo"]:
        options = dict(form="ipo")
    loss = losses.dpo(**given, beta=args["beta"], **options)
    return {"loss": loss, **rewards(given, args["beta"])}


def tdpo_loss(inputs, args):
    labels = inputs["labels"][:, 1:]
    both = [inputs[name][:, :-1] for name in ("logits", "ref_logits")]
    mine, theirs = (jnp.sum(losses.token_log_probs(x, labels), axis=1) for x in both)
    flat = [x.reshape(-1, x.shape[-1]) for x in both]
    kl = losses.distillation_kl(*flat, reduce_fn=None).reshape(labels.shape)
    kl = jnp.sum(jnp.where(labels != -100, kl, 0), axis=1)
    n = len(labels) // 2
    given = {
        "chosen": mine[:n],
        "rejected": mine[n:],
        "reference_chosen": theirs[:n],
        "reference_rejected": theirs[n:],
    }
    options = dict(
        chosen_kl=kl[:n],
        rejected_kl=kl[n:],
        beta=args["beta"],
        alpha=args["alpha"],
        form="tdpo2" if args["if_tdpo2"] else "tdpo1",
    )
    return {
        "logps_margin": mine - theirs,
        "position_kl": kl,
        "logps": mine,
        "losses": losses.token_dpo(**given, **options, reduce_fn=None),
        "loss": losses.token_dpo(**given, **options),
        # The released code counts the drift as a part of the reward.
        "chosen_rewards": drifted(mine, theirs, kl, args["beta"])[:n],
        "rejected_rewards": drifted(mine, theirs, kl, args["beta"])[n:],
    }


def drifted(mine, theirs, kl, beta):
    return losses.implicit_rewards(mine + kl, theirs, beta=beta)


def rto_token_reward(inputs, args):
    got = losses.dense_rewards(
        inputs["policy_logps"],
        inputs["ref_logps"],
        inputs["dpo_logps"],
        where=inputs["action_mask"] > 0,
        response_rewards=inputs["sequence_reward"],
        scale=args["dpo_reward_scale"],
        clip=args["dpo_reward_clip"] or None,
        kl_weight=args["kl_coef"],
    )
    return {"dpo_token_reward": got.preferred, "reward": got.total, "kl": got.drift}


def pass_at_k(inputs, args):
    correct = np.asarray(inputs["correct"])
    number = correct.shape[1]
    found = [
        evaluation.pass_at_k(correct.sum(axis=1), num_samples=number, k=min(k, number))
        for k in range(1, args["max_k"] + 1)
    ]
    return {"pass_at_k": np.array(found)}


ADAPTERS = {
    "token_logps": token_logps,
    "contrastive_estimation_score": contrastive_estimation_score,
    "cdpo_token_loss": cdpo_token_loss,
    "cdpo_sequence_loss": cdpo_sequence_loss,
    "dpo_loss": dpo_loss,
    "tdpo_loss": tdpo_loss,
    "rto_token_reward": rto_token_reward,
    "pass_at_k": pass_at_k,
}
