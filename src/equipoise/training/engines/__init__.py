"""Engines that run searchers and learner apart. Only `ray.py` and `actors.py` know of Ray; the other parts are plain."""
