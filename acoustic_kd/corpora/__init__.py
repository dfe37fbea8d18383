"""Speech corpora, one module each; utterances and splits (docs/corpora.md)."""
