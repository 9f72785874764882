"""The commands of `python -m bench`, and what all command lines of the suite share."""
