"""DebCSE: sentence pairs drawn by inverse propensity."""
