"""``python -m tools.nano NAME``: the same as ``wildsight pretrain NAME``, for a clone."""

from __future__ import annotations

import sys

from wildsight.cli import main

if __name__ == "__main__":
    main(["pretrain", *sys.argv[1:]])
