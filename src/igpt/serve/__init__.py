"""The page of `igpt serve`, and the HTTP API behind it."""
