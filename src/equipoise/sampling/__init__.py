"""Where trajectories come from: sources."""
