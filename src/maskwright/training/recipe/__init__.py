"""The recipe: the only place that sees the options of every part."""
