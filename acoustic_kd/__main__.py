"""`python -m acoustic_kd COMMAND`, and what `accelerate launch -m acoustic_kd COMMAND` runs."""

import sys

from acoustic_kd.cli import main

if __name__ == "__main__":
    sys.exit(main())
