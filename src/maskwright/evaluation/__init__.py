"""From a model to scores on disk: scoring at chosen positions, tasks (plug-ins), fill-mask."""
