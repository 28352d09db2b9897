"""``make bench``: how fast, how large and how exact faceline is. docs/benchmark.md defines every figure."""
