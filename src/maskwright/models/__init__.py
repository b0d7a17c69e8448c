"""Models other than the encoder that is trained: read from disk, frozen, or built for it."""
