"""Recipes, run folders, and one function a stage: what is done, and what is kept of it."""
