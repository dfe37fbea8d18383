"""Sound files, log-mel filterbanks, normalisation and frame shards."""
