"""From token shards to packed batches: order, packing and loading, all pure functions of (seed, step)."""
