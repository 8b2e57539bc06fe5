"""Algorithms that learn without labels: clusters, components, anomalies, topics."""
