"""AMCL: several projection heads, and a temperature for every pair and head."""
