"""What runs on a GPU that is lent for minutes, and keeps nothing."""
