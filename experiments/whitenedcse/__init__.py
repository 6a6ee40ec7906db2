"""WhitenedCSE: whitening of shuffled groups of channels, several positives."""
