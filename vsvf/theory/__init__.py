"""Numerical analysis on plans: convergence order, zero-stability, and the test problems with exact solutions."""
