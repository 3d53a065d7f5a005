"""Everybody else's files: transformers, the hub, the authors' TensorFlow checkpoints."""
