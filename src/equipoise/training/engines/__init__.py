"""Engines: what runs searchers and learner apart. The plain parts know nothing of Ray; only `ray.py` and its actors do."""
