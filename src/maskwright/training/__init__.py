"""From a recipe to trained weights: the only place that sees every part's configuration."""
