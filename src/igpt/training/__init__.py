"""Fitting weights: the loop, the learning rate, saving and resuming."""
