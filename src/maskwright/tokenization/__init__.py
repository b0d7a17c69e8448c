"""Text to token ids: training, loading, saving and judging tokenizers."""
