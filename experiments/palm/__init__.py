"""PALM: outsiders by the distance from mixtures of prototypes."""
