"""Parts that objectives share: which positions, what replaces them, rates that change over a run."""
