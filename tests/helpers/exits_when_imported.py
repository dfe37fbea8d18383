"""A script of a user, which reads its own command line when it is imported."""

import sys

sys.exit("usage: exits_when_imported.py DIR")
