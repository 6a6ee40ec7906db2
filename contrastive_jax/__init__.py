"""Contrastive, energy-based and decoding objectives in JAX.

Importing the package pulls in nothing; import the part you need:

    from contrastive_jax import losses, parallel, similarity

numerics, similarity, pairs, randomness, transforms, losses, ebm, states, methods,
parallel and search need no more than the package installs. models, data, evaluation,
report, training and tasks need the extra `experiments`:

    pip install 'contrastive_jax[experiments]'

`load_run` opens the folder of a run again, see `contrastive_jax.load`.
"""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`load_run`, which is imported when it is asked for."""
    if name == "load_run":
        from contrastive_jax.load import load_run

        return load_run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
