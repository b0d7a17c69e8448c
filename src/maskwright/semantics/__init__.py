"""The dictionary system of masked latent semantic modelling: atoms, codes, targets and their descriptions."""
