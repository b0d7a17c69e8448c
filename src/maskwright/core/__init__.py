"""What all parts share: the values that travel, records on disk, randomness, errors. Imports no other part."""
