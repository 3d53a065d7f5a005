"""Recipes, run folders, and one function for each stage of an experiment."""
