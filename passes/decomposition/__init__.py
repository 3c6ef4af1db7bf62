"""Expressing operators by simpler ones."""
