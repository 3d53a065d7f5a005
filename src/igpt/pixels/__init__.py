"""From an image file to pixels to tokens, and back."""
