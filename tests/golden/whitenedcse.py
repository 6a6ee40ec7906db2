"""Names of WhitenedCSE's reference values, in terms of the library."""

from typing import Any

import jax.numpy as jnp

from contrastive_jax import losses, similarity, states
from contrastive_jax.methods import whitenedcse


def whitening(args) -> dict[str, Any]:
    """Options of `states.group_whiten`."""
    cut = args.get("stop_gradient_on_whitening_matrix", True)
    return dict(
        num_groups=int(args["num_groups"]),
        ddof=int(args["ddof"]),
        eps=float(args["eps"]),
        stop_gradient=bool(cut),
    )


def shuffled_group_whitening_train(inputs, args):
    """Views are equal parts of the batch axis, in order."""
    x = inputs["x"]
    views = x.reshape(int(args["num_views"]), -1, x.shape[1])
    y = states.shuffled_group_whiten(views, inputs["permutations"], **whitening(args))
    return {"y": y.reshape(x.shape)}


def group_whitening(inputs, args):
    y = states.group_whiten(inputs["x"], inputs["permutation"], **whitening(args))
    return {"y": y}


def scores(inputs, args):
    """The first view against each of the others, v arrays [n, n]."""
    first, *others = jnp.moveaxis(inputs["z"], 1, 0)
    return [similarity.cosine(first, x) / float(args["temperature"]) for x in others]


def simcse_unsup(inputs, args):
    (logits,) = scores(inputs, args)
    return {"loss": losses.info_nce(logits)}


def simcse_hard_negative(inputs, args):
    """The weight is a logarithm, of the anchor's own hard negative only."""
    logits, hard = scores(inputs, args)
    own = float(args["hard_negative_weight"]) * jnp.eye(len(hard), dtype=hard.dtype)
    return {
        "loss": losses.info_nce(
            jnp.concatenate([logits, hard], axis=1),
            log_weights=jnp.concatenate([jnp.zeros_like(own), own], axis=1),
        )
    }


def multi_positive_loss(inputs, args):
    logits = jnp.stack(scores(inputs, args), axis=1)
    return {"loss": whitenedcse.multi_view_info_nce(logits)}


def scaled(x, args):
    return similarity.l2_normalize(x) if args["normalize"] else x


def alignment(inputs, args):
    x, y = (scaled(inputs[name], args) for name in "xy")
    return {"loss": losses.alignment(x, y, alpha=float(args["alpha"]))}


def uniformity(inputs, args):
    return {"loss": losses.uniformity(scaled(inputs["x"], args), t=float(args["t"]))}


ADAPTERS = {
    "shuffled_group_whitening_train": shuffled_group_whitening_train,
    "group_whitening_single": group_whitening,
    "group_whitening_eps": group_whitening,
    "simcse_unsup": simcse_unsup,
    "simcse_hard_negative": simcse_hard_negative,
    "multi_positive_loss": multi_positive_loss,
    "alignment": alignment,
    "uniformity": uniformity,
}
