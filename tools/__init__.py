"""What is run from a clone and is not in the package."""
