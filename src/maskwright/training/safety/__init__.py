"""What keeps a run from being lost: lock, signals, non-finite numbers."""
