"""Schedule, temporal windows, the sampler and what it gives; knows nothing of the networks."""
