"""Antibodies: structures, residue-frame diffusion of their loops, and energies of designs."""
