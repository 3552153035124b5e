"""``python -m gpu_launcher.cli``: the same as ``gpu-launcher``."""

from __future__ import annotations

import sys

from gpu_launcher.cli import main

if __name__ == "__main__":
    sys.exit(main())
