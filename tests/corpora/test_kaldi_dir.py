"""Kaldi data directories: what is read, and how each mistake is named."""

import pytest

from acoustic_kd.corpora import kaldi_dir as kaldi_dir
from acoustic_kd.corpora.utterances import Exclusion, Utterance
from acoustic_kd.system.errors import UserError


@pytest.fixture
def data(tmp_path):
    """write("train", "text", "a YES") makes one file; train and test start with one wav.scp."""

    def write(split: str, name: str, *lines: str):
        (tmp_path / split).mkdir(exist_ok=True)
        (tmp_path / split / name).write_text("".join(f"{line}\n" for line in lines))
        return tmp_path

    for split in ("train", "test"):
        write(split, "wav.scp", "a audio/a.wav", "b /abs/b.flac")
    return write


def test_transcribed_split(data, tmp_path):
    data("train", "text", "a hello  there", "b\tyes")
    root = data("train", "utt2spk", "a anna", "b ben")
    assert kaldi_dir.read(root).splits["train"] == [
        Utterance("a", "anna", str(tmp_path / "audio/a.wav"), "HELLO THERE"),
        Utterance("b", "ben", "/abs/b.flac", "YES"),
    ]


def test_a_byte_order_mark_belongs_to_no_id(data):
    data("train", "text", "\ufeffa hello", "b yes")
    data("train", "utt2spk", "\ufeffa anna", "b anna")
    corpus = kaldi_dir.read(data("train", "wav.scp", "\ufeffa a.wav", "b b.wav"))
    assert [(u.id, u.speaker, u.text) for u in corpus.splits["train"]] == [
        ("a", "anna", "HELLO"),
        ("b", "anna", "YES"),
    ]


def test_without_text_and_speakers(data, tmp_path):
    corpus = kaldi_dir.read(data("dev", "wav.scp", "d d.wav"))
    assert list(corpus.splits) == ["train", "dev", "test"]
    assert corpus.splits["dev"] == [Utterance("d", "d", str(tmp_path / "d.wav"), None)]
    assert corpus.excluded == []


def test_segments(data):
    data("train", "segments", "a-1 a 0.0 1.25", "a-2 a 1.25 -1")
    first, second = kaldi_dir.read(data("train", "text", "a-1 yes", "a-2 no")).splits["train"]
    assert (first.id, first.start, first.end, first.text) == ("a-1", 0.0, 1.25, "YES")
    assert (second.id, second.start, second.end) == ("a-2", 1.25, None)
    assert first.audio == second.audio


def test_missing_transcript_is_excluded(data):
    root = data("train", "text", "a hello", "b")
    corpus = kaldi_dir.read(root)
    assert [u.id for u in corpus.splits["train"]] == ["a"]
    assert corpus.excluded == [Exclusion("b", "train", f"no words in {root / 'train' / 'text'}")]


def test_speech_without_transcripts(data, tmp_path):
    data("untranscribed", "wav.scp", "x x.wav", "y /abs/y.flac")
    data("untranscribed", "utt2spk", "x anna", "y berta")
    (tmp_path / "untranscribed" / "text").write_bytes(b"\xff\xfe never read")
    expected = [
        Utterance("x", "anna", str(tmp_path / "x.wav"), None),
        Utterance("y", "berta", "/abs/y.flac", None),
    ]
    corpus = kaldi_dir.read(tmp_path)
    assert list(corpus.splits) == ["train", "test", "untranscribed"] and not corpus.excluded
    assert corpus.splits["untranscribed"] == expected
    assert kaldi_dir.read_untranscribed(tmp_path / "untranscribed") == expected
    data("untranscribed", "segments", "x-1 x 0.5 2")
    data("untranscribed", "utt2spk", "x-1 anna")
    (segment,) = kaldi_dir.read_untranscribed(tmp_path / "untranscribed")
    assert (segment.id, segment.start, segment.end, segment.text) == ("x-1", 0.5, 2.0, None)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (None, r"untranscribed/wav\.scp: no such file; list the speech without"),
        ([], r"untranscribed/wav\.scp: lists no speech; fill it, or remove the folder"),
        (["a"], r"untranscribed/wav\.scp:1: expected 'recording-id path'"),
        (["a |cat a.wav"], r"untranscribed/wav\.scp:1: .* is a command"),
    ],
)
def test_speech_without_transcripts_that_is_not_there(data, tmp_path, lines, message):
    (tmp_path / "untranscribed").mkdir()
    if lines is not None:
        data("untranscribed", "wav.scp", *lines)
    for read in (kaldi_dir.read, lambda root: kaldi_dir.read_untranscribed(root / "untranscribed")):
        with pytest.raises(UserError, match=message):
            read(tmp_path)


def test_dev_is_optional_but_test_is_not(data):
    root = data("train", "text", "a hello", "b yes")
    assert list(kaldi_dir.read(root).splits) == ["train", "test"]
    (root / "test/wav.scp").unlink()
    with pytest.raises(UserError, match=r"test/wav\.scp: no such file; expected Kaldi"):
        kaldi_dir.read(root)


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("wav.scp", ["a sph2pipe -f wav a.sph |"], r"wav\.scp:1: .* is a command, .* not run"),
        ("wav.scp", ["a a.wav", "b"], r"wav\.scp:2: expected 'recording-id path'"),
        ("wav.scp", ["a a.wav", "a b.wav"], r"wav\.scp:2: duplicate id 'a'; keep one of the lines"),
        ("wav.scp", ["a a.wav", "", "b b.wav"], r"wav\.scp:2: empty line"),
        ("text", ["a yes", "a no"], r"text:2: duplicate id 'a'; keep one of the lines"),
        ("utt2spk", ["a anna", "b"], r"utt2spk:2: expected 'utterance-id speaker'"),
        ("utt2spk", ["a anna"], r"utt2spk: no speaker of utterance 'b'; add a line for it"),
        ("utt2spk", ["a anna maria"], r"utt2spk:1: expected 'utterance-id speaker'"),
        ("segments", ["a-1 a 0.0"], r"segments:1: expected 'utterance-id recording-id start"),
        ("segments", ["a-1 a zero 1"], r"segments:1: expected 'utterance-id recording-id start"),
        ("segments", ["a-1 c 0 1"], r"segments:1: recording 'c' is not in"),
        ("segments", ["a-1 a 2 1"], r"segments:1: segment from 2\.0 to 1\.0 s has no sound"),
        ("segments", ["a-1 a -3 -1"], r"segments:1: segment from -3\.0 to -1\.0 s"),
        ("segments", ["a-1 a nan 1"], r"segments:1: segment from nan"),
        ("segments", ["a-1 a 0 inf"], r"segments:1: segment from 0\.0 to inf s"),
    ],
)
def test_malformed_line_is_named(data, name, lines, message):
    with pytest.raises(UserError, match=message) as caught:
        kaldi_dir.read(data("train", name, *lines))
    assert "\n" not in str(caught.value)


def test_binary_instead_of_text(data):
    root = data("train", "text")
    (root / "train/text").write_bytes(b"a \xff\xfe\n")
    with pytest.raises(UserError, match="text:1: byte 0xff is not UTF-8; convert the file"):
        kaldi_dir.read(root)


@pytest.mark.parametrize("code", [0x00, 0x0B, 0x1C, 0x85, 0x2028])
def test_a_control_character_in_a_transcript_is_named(tmp_path, code):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "wav.scp").write_text("a a.wav\n")
        (tmp_path / split / "text").write_text("a\tGO\u2019S  ON\u0301\r\n", encoding="utf-8")
    read = kaldi_dir.read(tmp_path).splits["train"][0].text
    assert read == "GO\u2019S ON\u0301"  # such words are not in the lexicon, and said to be so
    path = tmp_path / "train" / "text"
    path.write_text(f"a GO{chr(code)}ON\n", encoding="utf-8")
    with pytest.raises(UserError, match=rf"text:1: control character U\+{code:04X}; remove it"):
        kaldi_dir.read(tmp_path)
