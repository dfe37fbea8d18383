"""Kaldi's archives, read and written without Kaldi; knows no speech. docs/kaldi.md"""
