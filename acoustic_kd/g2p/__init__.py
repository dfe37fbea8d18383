"""Pronunciations for words that a lexicon lacks, learnt from the lexicon itself."""
