"""Distil an ensemble of deep acoustic models into one model as good as the ensemble."""

__version__ = "0.1.0"
