"""One record a data set and a set to evaluate on, one file each; bench.data.catalog lists them."""
