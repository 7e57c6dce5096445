"""Benchmarks: ``make bench`` and ``make speedrun``."""
