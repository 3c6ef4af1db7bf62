"""Removing channels and weights that contribute least."""
