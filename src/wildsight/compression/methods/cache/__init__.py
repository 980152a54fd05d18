"""Which columns a cache keeps, and how many in each layer: a paper is a file, registered in `base`."""
