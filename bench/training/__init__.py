"""The one training loop: it follows the phases of a recipe and knows no method by name."""
