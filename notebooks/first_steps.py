# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # First steps
#
# Sample handwritten digits with the network that comes with the package, find the noise a digit came from, and go back.

# %%
import torch

import vsvf
from vsvf import formulas, predictors

schedule = vsvf.Schedule.linear()
grid = vsvf.Grid.from_schedule(schedule, 20, spacing="trailing", final="smallest")
eps = predictors.digits(label=torch.arange(10), guidance=2.0)
noise = torch.randn(10, 1, 28, 28, generator=torch.Generator().manual_seed(0))

# %% [markdown]
# A sampler is data. Its coefficients for one window of nodes:

# %%
formula = formulas.belm(2)
a, b = formula.coefficients(grid.sigma_bar[:3])
print(formula, "a =", a, "b =", b)

# %% [markdown]
# Sampling returns a state: the images `.x`, and the k states from which the method can retrace its steps.

# %%
state = vsvf.sample(eps, noise, grid, formula, arithmetic="float64")
back = vsvf.invert(eps, state, grid, formula)
print(state, "returned to the noise within", float((back.x - noise).abs().max()))

# %% [markdown]
# Floating point rounds; with integers every bit comes back.

# %%
state = vsvf.sample(eps, noise, grid, formula, arithmetic="fixed")
back = vsvf.invert(eps, state, grid, formula)
again = vsvf.sample(eps, back, grid, formula)
assert torch.equal(again.values, state.values)

# %% [markdown]
# From an image alone the other k - 1 states have to be made by a starter; the noise found is then as good as the starter.

# %%
inverted = vsvf.invert(eps, state.x, grid, formula, starter="rk4:8")
print("from the images alone:", float((inverted.x - noise).abs().max()))

# %% [markdown]
# Is a method safe on this grid? `stability` says so before anything is run.

# %%
for name in ("belm(2)", "belm(3)", "stable_belm(4)"):
    print(name, "—", vsvf.stability(formulas.by_name(name), grid).sentence)
