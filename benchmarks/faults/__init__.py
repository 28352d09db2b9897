"""Faults on purpose, at random moments: whether the next run repairs everything, byte by byte."""
