"""APE: anomalies among categorical events by embeddings of entities."""
