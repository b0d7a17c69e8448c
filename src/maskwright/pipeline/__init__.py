"""Where the stages meet: what the Python functions and the command line's verbs call."""
