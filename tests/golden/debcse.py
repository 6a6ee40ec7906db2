"""Names of DebCSE's reference values, in terms of the library."""

import jax.numpy as jnp

from contrastive_jax import similarity
from contrastive_jax.methods import debcse


def surface_similarity(inputs, args):
    pair = inputs["tokens_a"], inputs["tokens_b"]
    kinds = "edit_similarity", "jaccard", "length_ratio"
    return {name: getattr(debcse, name)(*pair) for name in kinds}


def ipw_sampling(inputs, args):
    semantic, surface, role = inputs["semantic"], inputs["surface"], args["role"]
    log_probs = debcse.ipw_log_probs(
        semantic,
        surface,
        semantic_temperature=args["tau_semantic"],
        surface_temperature=args["tau_surface"],
        clip=args["clip"],
        semantic_max=args["semantic_max"],
        role=role,
    )
    chances = debcse.propensity(surface, temperature=args["tau_surface"], role=role)
    columns, _ = debcse.gumbel_top_k(log_probs, inputs["gumbel"], k=2)
    return {
        "propensity": chances,
        "probability": jnp.exp(log_probs),
        "top2": columns,
    }


def debcse_loss(inputs, args):
    def logits(candidates):
        n, c, d = candidates.shape
        cosines = similarity.cosine(inputs["h"], candidates.reshape(n * c, d))
        return cosines / args["temperature"]

    pos, neg = inputs["pos"], inputs["neg"]
    n, s, _ = pos.shape
    by_slot = logits(pos.swapaxes(0, 1)).reshape(len(inputs["h"]), s, n)
    return {"loss": debcse.debcse(by_slot, logits(neg) if neg.size else None)}


ADAPTERS = {
    "surface_similarity": surface_similarity,
    "ipw_sampling": ipw_sampling,
    "debcse_loss": debcse_loss,
}
