"""One folder per published system: config, experiment, README and results."""
