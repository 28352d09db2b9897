"""Anomalies against truth: metrics, footage with known moments (spliced from real clips, made), and other methods."""
