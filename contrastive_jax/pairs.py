"""Labels to pair masks: who is a positive of whom, who is oneself, who is left out.

All masks are boolean [n, m]: n anchors in rows, m candidates in columns. Where
candidates were gathered over devices, `rows` gives the column of each local anchor.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from contrastive_jax import numerics


def same_label(
    anchors: Int[Array, " n"], candidates: Int[Array, " m"] | None = None
) -> Bool[Array, "n m"]:
    """True where anchor and candidate carry the same label.

    Args:
      anchors: label of each anchor.
      candidates: label of each candidate; the anchors' own when None.
    """
    candidates = anchors if candidates is None else candidates
    numerics.check_shapes(anchors=(anchors, "n"), candidates=(candidates, "m"))
    return anchors[:, None] == candidates[None, :]


def one_column(columns: Int[Array, " n"], num_columns: int) -> Bool[Array, "n m"]:
    """True at one column of each row, False everywhere in a row whose column is < 0."""
    numerics.check_shapes(columns=(columns, "n"))
    return columns[:, None] == jnp.arange(num_columns)[None, :]
