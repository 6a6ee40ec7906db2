"""BaCon: new classes in a long-tailed set, by two branches that advise each other."""
