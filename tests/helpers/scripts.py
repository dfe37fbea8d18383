"""The path of the repository, for tests of its scripts and programs."""

from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
