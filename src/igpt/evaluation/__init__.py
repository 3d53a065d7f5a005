"""Measuring and using fitted weights: likelihood, features, probes, completion."""
