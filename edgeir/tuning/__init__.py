"""Tuning: tasks of a model, search with a learned cost model, measurement, records."""
