"""Numbers that others published, to stand beside measured ones.

Sources: F. Wang et al., "BELM: Bidirectional Explicit Linear Multi-step Sampler for Exact Inversion in Diffusion Models",
arXiv:2410.07273 (Tables 2 to 5); and a report of its reproduction, whose own O-BELM is `REPORT`.
"""

from __future__ import annotations

STEPS = (10, 20, 50, 100)
DDIM, AUTOENCODER, EDICT, BDIA, O_BELM, REPORT = "DDIM", "AE", "EDICT", "BDIA", "O-BELM", "O-BELM (report)"

PIXELS: dict[str, tuple[float, ...]] = {  # Table 2: reconstruction, COCO-14, SD-1.5, MSE on pixels in [-1, 1]
    DDIM: (0.026, 0.016, 0.008, 0.007),
    AUTOENCODER: (0.004, 0.004, 0.004, 0.004),
    EDICT: (0.004, 0.004, 0.004, 0.004),
    BDIA: (0.004, 0.004, 0.004, 0.004),
    O_BELM: (0.004, 0.004, 0.004, 0.004),
    REPORT: (0.0039, 0.0039, 0.0038, 0.0038),
}

LATENTS: dict[str, tuple[float, ...]] = {  # Table 3: the same on latents
    DDIM: (0.414, 0.243, 0.063, 0.041),
    AUTOENCODER: (0.0, 0.0, 0.0, 0.0),
    EDICT: (0.0, 0.0, 0.0, 0.0),
    BDIA: (0.0, 0.0, 0.0, 0.0),
    O_BELM: (0.0, 0.0, 0.0, 0.0),
    REPORT: (0.0, 0.0, 0.0, 0.0),
}

FID: dict[str, dict[str, tuple[float, ...]]] = {  # Tables 4 and 5: 50,000 samples for the first two, 30,000 for the others
    "CIFAR-10": {
        DDIM: (17.45, 10.60, 6.96, 5.72),
        EDICT: (87.11, 38.84, 10.24, 5.31),
        BDIA: (12.27, 7.27, 5.77, 5.07),
        O_BELM: (10.98, 7.17, 5.24, 4.18),
        REPORT: (18.82, 16.33, 13.51, 12.64),
    },
    "CelebA-HQ": {
        DDIM: (27.13, 16.33, 10.77, 10.19),
        EDICT: (57.82, 39.24, 16.72, 12.24),
        BDIA: (27.41, 16.18, 10.65, 10.30),
        O_BELM: (19.13, 11.54, 10.41, 10.17),
        REPORT: (18.94, 11.44, 10.72, 11.49),
    },
    "SD-1.5": {
        DDIM: (21.44, 19.45, 18.93, 18.83),
        EDICT: (85.77, 27.17, 21.30, 21.13),
        BDIA: (23.96, 20.39, 19.38, 19.21),
        O_BELM: (18.19, 17.92, 17.96, 18.19),
        REPORT: (19.32, 18.85, 18.33, 18.47),
    },
    "SD-2.0-base": {
        DDIM: (20.40, 18.57, 17.82, 17.64),
        EDICT: (75.14, 24.15, 19.76, 19.49),
        BDIA: (22.00, 18.72, 17.98, 17.86),
        O_BELM: (17.01, 16.53, 16.52, 16.75),
        REPORT: (17.94, 17.74, 17.32, 16.97),
    },
}


def column(method: str) -> str | None:
    """The column of the published tables that a method belongs to: "belm(2)" is O-BELM, "ddim_inversion" DDIM."""
    family = method.partition("(")[0]
    if method == "belm(2)":
        return O_BELM
    return {"ddim": DDIM, "ddim_inversion": DDIM, "edict": EDICT, "bdia": BDIA}.get(family)


def published(table: dict[str, tuple[float, ...]], method: str, steps: int) -> float | None:
    """The paper's number for a method and a number of steps, if it has one."""
    name = column(method)
    return table[name][STEPS.index(steps)] if name in table and steps in STEPS else None
