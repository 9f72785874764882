"""One module a figure: a function from DataFrames to a matplotlib Figure, which analysis.gallery names and captions."""
