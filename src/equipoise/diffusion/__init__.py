"""Diffusion models as samplers: processes, networks, the sampler, targets, image posteriors."""
