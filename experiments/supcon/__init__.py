"""SupCon: all images of a class attract, all others repel."""
