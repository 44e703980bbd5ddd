"""Scripts that made the files in ``vsvf/assets`` (not part of the installed package)."""
