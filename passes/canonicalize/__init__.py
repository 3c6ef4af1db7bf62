"""Bringing equal computations into one form, and removing what computes nothing."""
