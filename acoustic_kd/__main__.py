"""`python -m acoustic_kd VERB`, and what `accelerate launch -m acoustic_kd VERB` runs."""

import sys

from acoustic_kd.cli import main

if __name__ == "__main__":
    sys.exit(main())
