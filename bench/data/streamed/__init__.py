"""Images that are decoded from their files ahead of the training steps, because they do not fit into memory."""
