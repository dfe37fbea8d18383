"""A graph that several tests decode."""

import numpy as np
import pytest
from spelled_graphs import LEXICON, SENONES, WORDS

from acoustic_kd.decoding.graph.compile import build_graph
from acoustic_kd.language.ngrams import train_lm


@pytest.fixture(scope="package")
def graph_dir(tmp_path_factory):
    """The graph of a trigram over the small lexicon."""
    folder = tmp_path_factory.mktemp("graph")
    rng = np.random.default_rng(5)
    text = [list(rng.choice(WORDS, size=rng.integers(1, 6))) for _ in range(30)]
    train_lm(text, WORDS, folder / "lm.arpa")
    build_graph(LEXICON, folder / "lm.arpa", SENONES, folder / "g")
    return folder / "g"
