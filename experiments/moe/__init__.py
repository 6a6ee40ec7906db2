"""MoE-Sim: one encoder for several fields, with an expert for each."""
