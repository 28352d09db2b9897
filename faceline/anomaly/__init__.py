"""Moments at which a face departs from the person's own usual expression: features, models, selection, events."""
