"""What is on disk: files written whole or not at all, locks, the folders of runs, logits and their records."""
