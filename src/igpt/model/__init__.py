"""The pixel transformer: its shape, its weights on disk, and sampling from it."""
