"""What the atoms of a dictionary mean: labels, contexts, profiles and senses."""
