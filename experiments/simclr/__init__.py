"""SimCLR: two augmented views of an image attract, all others repel."""
