"""vsvf: diffusion-model ODE solvers as data."""
