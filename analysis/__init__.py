"""The studies: one file each, with a `main(out)` that writes tables and figures. `python -m analysis` runs all of them."""
