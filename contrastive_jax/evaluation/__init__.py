"""Measures of what was learned: probes, neighbours, retrieval, similarity, geometry."""

__all__: list[str] = []
