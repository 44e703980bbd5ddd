"""Measured order of convergence, and problems with exact solutions to measure it on."""
