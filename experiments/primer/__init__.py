"""Primer: the families of contrastive objectives on one encoder and one long tail."""
