"""Benchmarks: ``make bench``. Figures and ratios of one machine in one run, never a test."""
