"""Engines that run searchers and learner apart. Only `ray.py` and `actors.py` know of Ray; other parts are plain."""
