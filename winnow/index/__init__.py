"""Maximum-inner-product search over the catalogue, behind one small protocol."""
