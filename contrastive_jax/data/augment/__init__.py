"""Random views of examples, on device: one function per kind of data."""
