"""SepCLR: what two sets share apart from what one of them has alone."""
