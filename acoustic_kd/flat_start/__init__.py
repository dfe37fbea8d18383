"""Alignment from nothing: a small model of Gaussians that learns from its own alignments."""
