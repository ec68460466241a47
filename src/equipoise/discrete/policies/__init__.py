"""Networks from encoded states to policy heads."""
