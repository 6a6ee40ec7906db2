"""SimCTG and contrastive search: text that does not repeat itself."""
