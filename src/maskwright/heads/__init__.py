"""What stands on top of an encoder."""
