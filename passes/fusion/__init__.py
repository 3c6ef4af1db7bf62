"""Grouping operators into kernels."""
