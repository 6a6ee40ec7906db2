"""What each stage minimizes, and the layer on a definition's vector."""

import jax
import jax.numpy as jnp

from contrastive_jax import losses, models, parallel
from contrastive_jax.methods import defsent
from contrastive_jax.models.pretrained import encoders
from experiments.defsent import measure


def layer_of(config, start, width):
    """The layer at the start of a stage: by `loss.layer`, or where another ended."""
    own = config.loss
    if own.layer == "pooler" or ("pooler" in start and not own.restart):
        return start["pooler"]  # BERT's, or that of the stage before
    if own.layer == "head":
        return start["head"]["dense"]  # as with RoBERTa
    return {"kernel": jnp.eye(width), "bias": jnp.zeros(width)}


def make_loss(config, axis_name=None):
    """`loss(params, frozen, batch, keys) -> (loss, vectors)` of a stage.

    "entries": `defsent.definition_loss` among all entries. "words" (DefSent): among all
    tokens by the frozen head of the masked language model; where the start has none,
    `defsent.definition_loss` among the embeddings of the tokens in place of entries.
    """
    own = config.loss
    recipe, mean = measure.make_recipe(config, own.pooling), parallel.mean(axis_name)

    def words(params, frozen, batch, keys):
        pooled = pool(params, batch, keys)
        table = jax.lax.stop_gradient(params["encoder"]["token"]["embedding"])
        scores = models.token_logits(frozen, table, pooled)
        return losses.info_nce(scores, batch["labels"], reduce_fn=mean), pooled

    def entries(params, frozen, batch, keys):
        pooled = pool(params, batch, keys)
        z = defsent.definition_vectors(
            pooled, **params["pooler"], activation=own.activation
        )
        loss = defsent.definition_loss(
            z, frozen["entries"], batch["labels"], reduce_fn=mean
        )
        return loss, pooled

    def pool(params, batch, keys):
        rows = batch["tokens"], batch["where"]
        return encoders.embed(recipe, params, *rows, keys=keys)

    def loss(params, frozen, batch, keys):
        of = entries if "entries" in frozen else words
        return of(params, frozen, batch, keys)

    return loss
