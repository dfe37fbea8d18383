"""The study of how soft targets are best stored: `tools/soft_target_study.py`."""
