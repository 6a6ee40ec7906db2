"""MECO: unnormalised models by compositional optimisation of their likelihood."""
