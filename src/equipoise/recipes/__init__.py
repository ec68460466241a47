"""Named experiments: each task's configuration, and what joins a domain, a reward and the training loop into a run."""
