"""One file a family: how its options and weights are called in transformers. Nothing lists them."""
