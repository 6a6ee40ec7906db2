"""Contrastive, energy-based and decoding objectives in JAX.

Importing the package pulls in nothing; import the part you need:

    from contrastive_jax import losses, parallel, similarity
"""

__version__ = "0.1.0"
