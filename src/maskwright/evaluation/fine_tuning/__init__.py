"""Fine-tuning a pre-trained encoder on labelled texts: packed batches, heads, presets, search."""
