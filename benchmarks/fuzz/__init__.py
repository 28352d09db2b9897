"""Mutated files and texts through everything that reads what others wrote."""
