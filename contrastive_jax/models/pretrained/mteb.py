"""A sentence encoder as `mteb`, the text embedding benchmark, takes one.

    import mteb
    scores = mteb.evaluate(MtebEncoder(load_encoder(folder)), mteb.get_tasks(["STSB"]))

mteb itself is imported only where it asks for the description of the model.
"""

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from contrastive_jax import similarity
from contrastive_jax.models.pretrained.encoders import TextEncoder


class MtebEncoder:
    """Meets the encoder protocol of mteb 2: `encode`, `similarity` by cosine.

    Texts of nothing but spaces, which some of its sets have, get the zero vector, and
    one UserWarning counts them.

    Attributes:
      encoder: the encoder.
      params: as `encoder.params`.
      name: "owner/model", as mteb wants it.
      prompts: what is put in front of a text by its role, "query" or "document".
    """

    def __init__(
        self,
        encoder: TextEncoder,
        params: Any = None,
        *,
        name: str = "contrastive_jax/encoder",
        prompts: Mapping[str, str] | None = None,
    ) -> None:
        self.encoder, self.name, self.prompts = encoder, name, dict(prompts or {})
        self.params = encoder.params if params is None else params
        if name.count("/") != 1:
            raise ValueError(f'name: expected "owner/model", got {name!r}')
        unknown = set(self.prompts) - {"query", "document"}
        if unknown:
            raise ValueError(
                f"prompts: expected keys query and document, got {sorted(unknown)}"
            )

    def encode(
        self, inputs: Iterable[Any], *, prompt_type: Any = None, **_: Any
    ) -> Float[np.ndarray, "n d"]:
        """Embeddings of batches {"text": [...]}; settings of other encoders are unused.

        Raises:
          ValueError: no text at all but empty ones.
        """
        role = getattr(prompt_type, "value", prompt_type)
        prompt = self.prompts.get(role or "", "")
        texts = [text for batch in inputs for text in batch["text"]]
        full = np.array([bool(text.strip()) for text in texts], bool)
        if not full.all():
            warnings.warn(
                f"{np.sum(~full)} of {len(texts)} texts are empty", stacklevel=2
            )
        found = self.encoder.encode(
            self.params,
            [prompt + text for text, some in zip(texts, full, strict=True) if some],
        )
        out = np.zeros((len(texts), found.shape[1]), np.float32)
        out[full] = found
        return out

    def similarity(
        self, embeddings1: Any, embeddings2: Any
    ) -> Float[np.ndarray, "n m"]:
        """Cosine of every pair; 0 for zero vectors."""
        return unit(embeddings1) @ unit(embeddings2).T

    def similarity_pairwise(
        self, embeddings1: Any, embeddings2: Any
    ) -> Float[np.ndarray, " n"]:
        """Cosine of row i with row i; 0 for zero vectors."""
        return np.sum(unit(embeddings1) * unit(embeddings2), axis=1)

    @property
    def mteb_model_meta(self) -> Any:
        """Name, number of parameters and size, as mteb writes them into its results."""
        import jax
        from mteb.models.model_meta import ModelMeta  # pyright: ignore

        leaves = jax.tree.leaves(self.params)
        facts = dict(
            name=self.name,
            n_parameters=sum(x.size for x in leaves),
            memory_usage_mb=sum(x.nbytes for x in leaves) / 2**20,
            max_tokens=self.encoder.max_tokens,
        )
        return ModelMeta.create_empty(facts)


def unit(vectors: Any) -> np.ndarray:
    """Rows of length 1, or zeros; one vector becomes one row."""
    rows = jnp.atleast_2d(jnp.asarray(vectors, jnp.float32))
    return np.asarray(similarity.l2_normalize(rows))
