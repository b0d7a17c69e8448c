"""What every part agrees on: the values that travel, the records on disk, randomness, errors. Imports nothing of ours."""
