"""Names of SimCTG's reference values, in terms of the library."""

import jax.numpy as jnp

from contrastive_jax import decoding, evaluation
from contrastive_jax.methods import simctg


def simctg_loss(inputs, args):
    """Tokens count up to the number of those that are no padding, from the left."""
    ids = inputs["input_ids"]
    count = jnp.sum(ids != args["pad_token_id"], axis=1)
    loss, parts = simctg.simctg(
        inputs["hidden"],
        inputs["logits"],
        inputs["labels"],
        margin=float(args["margin"]),
        where=jnp.arange(ids.shape[1])[None, :] < count[:, None],
        ignore_index=int(args["label_ignore"]),
    )
    return {"loss": loss, **parts}


def simctg_contrastive_mean_variant(inputs, args):
    """The mean over all entries, those of a token with itself included."""
    margins = simctg.token_margins(inputs["score_matrix"], margin=float(args["margin"]))
    return {"loss": jnp.mean(margins)}


def contrastive_search_rerank(inputs, args):
    context, candidates = inputs["context_hidden"], inputs["candidate_hidden"]
    probs, where = inputs["candidate_probs"], jnp.ones(context.shape[:2], bool)

    def scores(alpha):
        return decoding.contrastive_scores(
            probs, candidates, context, where, alpha=alpha
        )

    score = scores(float(args["alpha"]))
    selected = jnp.argmax(score, axis=1)
    # With alpha = 1 the score is the penalty alone.
    return {
        "selected": selected,
        "score": score,
        "degeneration_penalty": -scores(1.0),
    }


def contrastive_search_decode(inputs, args):
    """hidden_t = tanh(E[x_t] + mean over s <= t of E[x_s] / 2), logits = hidden U."""
    embed, head, prefix = inputs["embed"], inputs["unembed"], inputs["prefix_ids"]

    def branch(state, tokens):
        total, count = state
        new = embed[tokens]
        sums = total[:, None, :] + new
        return jnp.tanh(new + sums / (count + 1) / 2), sums

    def keep(state, sums, choice):
        return sums[jnp.arange(len(sums)), choice], state[1] + 1

    rows = embed[prefix]
    sums = jnp.cumsum(rows, axis=1)
    counts = jnp.arange(1, prefix.shape[1] + 1)[None, :, None]
    state = sums[:, -1], jnp.asarray(prefix.shape[1], rows.dtype)
    found = decoding.contrastive_search(
        decoding.Reader(branch, keep, lambda h: h @ head),
        state,
        jnp.tanh(rows + sums / counts / 2),
        decoding.Text(prefix, jnp.ones(prefix.shape, bool)),
        k=int(args["k"]),
        alpha=float(args["alpha"]),
        max_new=int(args["num_steps"]),
    )
    return {"sequence": jnp.concatenate([prefix, found.tokens], axis=1)}


def isotropy(inputs, args):
    hidden = inputs["hidden"]
    where = jnp.arange(hidden.shape[1])[None, :] < inputs["lengths"][:, None]
    pairs = evaluation.token_isotropy(hidden, where)
    return {
        "isotropy": pairs.isotropy(),
        "self_similarity_sum": pairs.total,
        "num_pairs": pairs.count,
    }


def diversity(inputs, args):
    """By all n-grams, and by the official count, which also rounds rep-n to 0.01 %."""
    tokens, out = inputs["tokens"], {}
    for name, drop in (("drop_last", True), ("all_ngrams", False)):
        options = dict(drop_last_ngram=drop)
        rep = [evaluation.repetition(tokens, n, **options) for n in (2, 3, 4)]
        out[f"rep_{name}"] = jnp.asarray(rep)
        out[f"diversity_{name}"] = jnp.asarray(evaluation.diversity(tokens, **options))
    percent = jnp.round(100 * out["rep_drop_last"], 2)
    out["rep_official_percent"] = percent
    out["diversity_official"] = jnp.prod(1 - percent / 100)
    return out


ADAPTERS = {
    "simctg_loss": simctg_loss,
    "simctg_contrastive_mean_variant": simctg_contrastive_mean_variant,
    "contrastive_search_rerank": contrastive_search_rerank,
    "contrastive_search_decode": contrastive_search_decode,
    "isotropy": isotropy,
    "diversity": diversity,
}
