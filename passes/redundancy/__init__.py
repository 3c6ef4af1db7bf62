"""Removing computation that is done twice or not used."""
