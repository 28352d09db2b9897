"""Footage that the project makes itself: public-domain portraits moved through their landmarks, with exact truth."""
