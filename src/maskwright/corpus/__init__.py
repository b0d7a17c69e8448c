"""Text to token shards on disk, offline; and reading them back."""
