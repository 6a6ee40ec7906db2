"""Names of DefSent's and DefSent+'s reference values, in terms of the library."""

import jax.numpy as jnp
import numpy as np

from contrastive_jax import models
from contrastive_jax.methods import defsent

POOLERS = {
    "cls": models.pool_cls,
    "sep": models.pool_last,
    "mean": models.pool_mean,
    "max": models.pool_max,
    "sum": models.pool_sum,
}


def pool(inputs, args):
    pooler = POOLERS[args["pooling"].lower()]
    return {"y": pooler(inputs["x"], inputs["attention_mask"] > 0)}


def entries_by(pooler):
    def adapter(inputs, args):
        hidden, counts = inputs["hidden_states"], inputs["definitions_per_entry"]
        where = jnp.arange(hidden.shape[1])[None, :] < inputs["lengths"][:, None]
        ids = np.repeat(np.arange(len(counts)), np.asarray(counts))
        y = defsent.entry_embeddings(
            pooler(hidden, where), ids, num_entries=len(counts)
        )
        return {"y": y}

    return adapter


def definition_to_entry_loss(inputs, args):
    pooled = POOLERS[args["pooling"]](inputs["h"], inputs["attention_mask"] > 0)
    z = defsent.definition_vectors(
        pooled, inputs["weight"].T, inputs["bias"], activation=args["activation"]
    )
    labels = inputs["labels"]
    return {"loss": defsent.definition_loss(z, inputs["entry_embeddings"], labels)}


def ica_transform(inputs, args):
    """As many components as columns, by the options that the case names."""
    same = args["n_components"] == inputs["x"].shape[1] and args["standardise_first"]
    if not same or (args["fun"], args["whiten"]) != ("logcosh", "unit-variance"):
        raise NotImplementedError(f"no such transform: {args}")
    y = defsent.isotropic_entries(
        inputs["x"],
        seed=int(args["random_state"]),
        scale=float(args["output_scale"]),
        num_iterations=int(args["max_iter"]),
        tol=float(args["tol"]),
    )
    return {"y": y}


def warmup_constant_multiplier(inputs, args):
    some = float(args["num_warmup_steps"])
    return {"y": defsent.warmup_constant(inputs["step"], num_warmup_steps=some)}


ADAPTERS = {
    **{f"pool_{name}": pool for name in POOLERS},
    "entry_embeddings_ac": entries_by(models.pool_cls),
    "entry_embeddings_amp": entries_by(models.pool_mean),
    "definition_to_entry_loss": definition_to_entry_loss,
    "ica_transform": ica_transform,
    "warmup_constant_multiplier": warmup_constant_multiplier,
}
