"""The smallest complete experiment; copy it."""
