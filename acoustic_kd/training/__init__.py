"""The acoustic model, its losses, the ensemble, batches and the training loop."""
