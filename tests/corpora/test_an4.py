"""AN4: the real corpus where it is at hand, and small broken copies of its layout."""

import numpy as np
import pytest

from acoustic_kd.corpora import an4 as an4
from acoustic_kd.corpora.load import load
from acoustic_kd.corpora.utterances import Exclusion
from acoustic_kd.features.audio import read_audio
from acoustic_kd.settings import CorpusConfig
from acoustic_kd.system.errors import UserError

TRANSCRIPTS = ["<s> YES </s> (an1-fash-b)", "<s> go   on </s> (an2-fash-b)", "NO (an3-mjp-b)"]
FILE_IDS = ["an4_clstk/fash/an1-fash-b", "an4_clstk/fash/an2-fash-b", "an4_clstk/mjp/an3-mjp-b"]


@pytest.fixture
def small(tmp_path):
    """An AN4 folder of three utterances a split, as headerless big-endian audio."""
    (tmp_path / "etc").mkdir()
    for split in ("train", "test"):
        ids = [file_id.replace("an4_", f"an4{split}_") for file_id in FILE_IDS]
        (tmp_path / f"etc/an4_{split}.fileids").write_text("\n".join(ids) + "\n")
        lines = "\n".join(TRANSCRIPTS) + "\n"
        (tmp_path / f"etc/an4_{split}.transcription").write_text(lines)
        for file_id in ids:
            path = tmp_path / "wav" / f"{file_id}.raw"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.array([0, 256, -256, 32767], dtype=">i2").tofile(path)
    return tmp_path


def test_real_corpus(shared_data):
    corpus = an4.read(shared_data / "an4")
    assert {split: len(utterances) for split, utterances in corpus.splits.items()} == {
        "train": 948,
        "test": 130,
    }
    assert corpus.excluded == []
    speakers = {split: {u.speaker for u in us} for split, us in corpus.splits.items()}
    assert (len(speakers["train"]), len(speakers["test"])) == (74, 10)
    first = corpus.splits["train"][0]
    assert (first.id, first.speaker, first.text) == ("an251-fash-b", "fash", "YES")
    assert sum(len(u.text.split()) for u in corpus.splits["test"]) == 773
    assert not any("<" in u.text for us in corpus.splits.values() for u in us)
    assert 0.01 < np.abs(read_audio(first, 16000)).max() <= 1


def test_real_corpus_loads_from_the_folder_above_with_a_dev_split(shared_data, tmp_path):
    config = CorpusConfig(name="an4", data_dir=str(shared_data), dev_share=0.1)
    splits = load(config, tmp_path).splits
    assert len(splits["train"]) + len(splits["dev"]) == 948
    assert 80 <= len(splits["dev"]) <= 110
    assert not {u.speaker for u in splits["train"]} & {u.speaker for u in splits["dev"]}
    assert list(tmp_path.iterdir()) == []


def test_layout_as_distributed(small):
    utterances = an4.read(small).splits["train"]
    assert [u.text for u in utterances] == ["YES", "GO ON", "NO"]
    assert [u.speaker for u in utterances] == ["fash", "fash", "mjp"]
    samples = read_audio(utterances[0], 16000)
    assert samples.tolist() == [0, 1 / 128, -1 / 128, 32767 / 32768]


def test_missing_audio_and_missing_transcript_are_excluded(small):
    (small / "wav/an4train_clstk/fash/an2-fash-b.raw").unlink()
    lines = (small / "etc/an4_test.transcription").read_text().splitlines()
    (small / "etc/an4_test.transcription").write_text("\n".join(lines[:2]) + "\n")
    corpus = an4.read(small)
    assert [u.id for u in corpus.splits["train"]] == ["an1-fash-b", "an3-mjp-b"]
    no_audio, no_transcript = corpus.excluded
    assert (no_audio.id, no_audio.split) == ("an2-fash-b", "train")
    assert no_audio.reason.startswith("no audio: ")
    assert no_transcript == Exclusion("an3-mjp-b", "test", "no transcript")


def test_too_many_missing_stop_the_load(small, tmp_path):
    (small / "wav/an4train_clstk/fash/an2-fash-b.raw").unlink()
    config = CorpusConfig(name="an4", data_dir=small, dev_share=0.5)
    with pytest.raises(UserError, match=r"train: 1 of 3 utterances .* an2-fash-b: no audio"):
        load(config, tmp_path)


def test_wrong_folder_says_what_was_expected(tmp_path):
    with pytest.raises(UserError, match=r"not an AN4 folder; expected .*an4_train\.fileids"):
        an4.read(tmp_path)


def test_missing_etc_file_is_named(small):
    (small / "etc/an4_test.fileids").unlink()
    with pytest.raises(UserError, match=r"an4_test\.fileids: cannot be read"):
        an4.read(small)


def test_malformed_transcript_is_named(small):
    (small / "etc/an4_train.transcription").write_text("<s> YES </s>\n")
    with pytest.raises(UserError, match=r"an4_train\.transcription:1: expected 'WORDS"):
        an4.read(small)
