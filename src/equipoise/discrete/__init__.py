"""Objects built step by step: environments, policies, the sampler, and exact figures by dynamic programming."""
