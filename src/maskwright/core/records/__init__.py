"""What stages leave on disk for each other, one file per subject."""
