"""Names of DefSent's and DefSent+'s reference values, in terms of the library."""

import jax.numpy as jnp
import numpy as np

from contrastive_jax import models, transforms
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


# Options of scikit-learn's FastICA that `transforms.fast_ica` fixes: others would find
# the components in another order, or with other signs.
FIXED = {"algorithm": "parallel", "whiten_solver": "svd", "w_init": None}


def ica_transform(inputs, args):
    """Any number of components, contrast, variance and scale; defaults are FastICA's.

    Raises:
      NotImplementedError: an option that no function of the library has.
    """
    x, whiten = np.asarray(inputs["x"]), args.get("whiten", "unit-variance")
    for name, value in FIXED.items():
        if args.get(name, value) != value:
            raise NotImplementedError(f"{name}: only {value}, got {args[name]}")
    if whiten not in ("unit-variance", "arbitrary-variance"):
        raise NotImplementedError(f"whiten: only to some variance, got {whiten}")
    options = {
        "seed": int(args.get("random_state", 42)),
        "num_components": args.get("n_components") or x.shape[1],
        "contrast": args.get("fun", "logcosh"),
        "num_iterations": int(args.get("max_iter", 200)),
        "tol": float(args.get("tol", 1e-4)),
    }
    scale = float(args.get("output_scale", 1))
    if whiten == "arbitrary-variance":  # 1 / n
        scale /= len(x) ** 0.5
    if args.get("standardise_first", True):
        return {"y": defsent.isotropic_entries(x, scale=scale, **options)}
    return {"y": scale * transforms.fast_ica(x, **options)}


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
