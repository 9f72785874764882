"""Images: what there is (catalog), where it comes from (sources), and augmentation on the device (augment)."""
