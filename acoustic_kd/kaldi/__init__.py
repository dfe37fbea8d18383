"""Kaldi archives and posteriors, read and written without Kaldi (docs/kaldi.md)."""
