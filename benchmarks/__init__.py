"""Measurements of speed and memory, and of how well anomalies agree with known moments (`benchmarks.anomalies`)."""
