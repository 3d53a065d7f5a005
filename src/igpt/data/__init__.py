"""From image collections to records on disk to the token batches of a step."""
