"""Terms, the loop, the run folder and its checkpoints. It knows no domain."""
