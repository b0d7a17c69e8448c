"""A search for the learning rate and the batch of a recipe by short runs."""
