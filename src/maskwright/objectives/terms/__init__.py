"""Terms of the loss: what an objective asks at positions of a batch, one idea a file."""
