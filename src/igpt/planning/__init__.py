"""What a training will need, reckoned before it begins: memory, time, and what is sent."""
