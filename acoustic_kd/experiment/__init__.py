"""An experiment directory: its stages, what they wrote, and what their models are."""
