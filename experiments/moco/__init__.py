"""MoCo: keys from a slowly moving copy of the encoder, negatives from a queue."""
