"""Methods of papers: one file for each, with what carries its name."""
