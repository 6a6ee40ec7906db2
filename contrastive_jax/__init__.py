"""Contrastive, energy-based and decoding objectives in JAX.

Importing the package pulls in nothing; import the part you need:

    from contrastive_jax import losses, parallel, similarity

numerics, similarity, pairs, randomness, transforms, losses, ebm, states, methods,
parallel and search need no more than the package installs. models, data, evaluation,
report, training and tasks need the extra `experiments`:

    pip install 'contrastive_jax[experiments]'
"""

__version__ = "0.1.0"
