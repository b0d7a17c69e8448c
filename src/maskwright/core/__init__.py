"""What every part agrees on: values that travel, records on disk, randomness, errors. Imports nothing of ours."""
