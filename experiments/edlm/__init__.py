"""EDLM: a residual energy over a masked diffusion language model."""
