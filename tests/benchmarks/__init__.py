"""Measurements, not tests: `make bench`. Each prints what it measured and on which machine."""
