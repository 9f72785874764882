"""Images: what there is by name (catalog, sets), where it comes from (sources), loading and augmentation."""
