"""Figures of runs and of samplers, the report's page, and TensorBoard's event files."""
