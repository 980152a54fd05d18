"""How the nano checkpoints are made: `python -m tools.nano NAME` in a clone, or `make nano NAME=...`."""
