"""Measurements of speed and memory; correctness is measured by the tests."""
