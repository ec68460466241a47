"""How far a sampler is from its target."""
