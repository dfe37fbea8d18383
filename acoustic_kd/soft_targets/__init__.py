"""The ensemble's tempered predictions: encoded, stored in checked shards, read by utterance."""
