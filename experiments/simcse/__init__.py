"""SimCSE: a sentence and itself under other dropout attract, other sentences repel."""
