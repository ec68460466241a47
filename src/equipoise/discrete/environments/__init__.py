"""Spaces of objects as pure tensor functions of static shape (see `contracts.Environment`)."""
