"""faceline: the moments in video footage when a face departs from that person's own usual expression.

The package is plain Python: arrays and tables in, arrays and tables out. It imports neither Prefect nor Hydra;
``tasks`` wraps it for Prefect, ``flows`` for the command line.
"""

__version__ = "0.1.0"
