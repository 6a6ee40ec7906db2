"""Reports of runs: the page, what a run records, pictures as matplotlib figures.

Needs the extra `experiments`.
"""

from contrastive_jax.report.page import Report

__all__ = ["Report"]
