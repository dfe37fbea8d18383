"""Errors, files and locks, up-to-date steps, processes, memory, signals and downloads."""
