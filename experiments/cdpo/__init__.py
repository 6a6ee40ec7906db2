"""cDPO: critical tokens by contrast, and preferences weighted by them."""
