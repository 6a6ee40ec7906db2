"""DefSent+: definitions predict entries that are made of definitions."""
