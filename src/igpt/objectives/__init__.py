"""What the network learns from: a batch of tokens becomes a loss."""
