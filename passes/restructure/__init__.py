"""Replacing layers by cheaper ones that compute nearly the same."""
