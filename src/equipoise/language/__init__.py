"""Causal language models: one as a sampler of responses, the problems they answer, and what judges the answers."""
