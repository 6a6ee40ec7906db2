"""LOL: contrast with a hallucinating amateur at the last and at a lower layer."""
