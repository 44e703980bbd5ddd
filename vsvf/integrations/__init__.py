"""Other people's interfaces, one folder or file each. Nothing else in the package imports them."""
