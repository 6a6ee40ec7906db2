"""DSE: sentences embedded alone reproduce the scores of a cross-encoder."""
