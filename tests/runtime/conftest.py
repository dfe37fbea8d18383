"""A bundle of the tiny recipe, and recordings for it."""

import pytest

from acoustic_kd.corpora.utterances import read_manifest


@pytest.fixture(scope="session")
def bundle(finished_recipe, tmp_path_factory):
    """A bundle of the distilled model, also with weights of 8 bits."""
    from acoustic_kd.verbs.bundle import bundle as write

    out = tmp_path_factory.mktemp("bundles") / "tiny"
    write(finished_recipe.directory, out, int8=True, allow_worse=True)
    return out


@pytest.fixture(scope="session")
def spoken(finished_recipe):
    """Recordings of the tiny recipe's test speaker."""
    manifest = read_manifest(finished_recipe.directory / "corpus" / "test.jsonl")
    return [utterance.audio for utterance in manifest]
