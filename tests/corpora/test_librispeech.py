"""LibriSpeech: a small tree in its layout, downloads, and the real corpus."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import mirror as pretended
import numpy as np
import pytest
import soundfile

from acoustic_kd.cli import main
from acoustic_kd.corpora import librispeech, openslr
from acoustic_kd.corpora.load import data_dir, load
from acoustic_kd.corpora.utterances import Utterance
from acoustic_kd.features.audio import read_audio
from acoustic_kd.settings import CorpusConfig, load_config
from acoustic_kd.system import download
from acoustic_kd.system.errors import UserError

CONF = Path(__file__).parents[2] / "recipes" / "conf"
SPEAKERS = 6


def write_part(folder, name, speakers=range(SPEAKERS), chapter=10):
    """A part of speakers with one chapter of three sentences each."""
    for speaker in speakers:
        place = folder / name / str(speaker) / str(chapter)
        place.mkdir(parents=True)
        ids = [f"{speaker}-{chapter}-000{number}" for number in range(3)]
        for number, key in enumerate(ids):
            samples = np.full(160 + number, 0.25, np.float32)
            soundfile.write(place / f"{key}.flac", samples, 16000)
        transcripts = "".join(f"{key} IT'S ME\n" for key in ids)
        (place / f"{speaker}-{chapter}.trans.txt").write_text(transcripts)
    return folder / name


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    monkeypatch.setattr(openslr, "MIRRORS", ("ftp://nowhere/",))
    monkeypatch.delenv("ACOUSTIC_KD_DATA", raising=False)


@pytest.fixture
def small(tmp_path):
    """A folder of one part, train-clean-5."""
    write_part(tmp_path / "LibriSpeech", "train-clean-5")
    return tmp_path


def config(folder, **changes) -> CorpusConfig:
    return replace(CorpusConfig(name="librispeech", data_dir=str(folder)), **changes)


def speakers(utterances) -> set[str]:
    return {utterance.speaker for utterance in utterances}


# --- reading ------------------------------------------------------------------------------------


def test_parts_lie_in_either_folder_and_may_be_several(small):
    second = librispeech.read(config(small), small).splits["train"][1]
    np.testing.assert_array_equal(soundfile.read(second.audio)[0], np.full(161, 0.25))
    write_part(small, "train-clean-100", range(20, 23))
    write_part(small / "LibriSpeech", "dev-clean", [30])
    write_part(small, "test-clean", [40])
    parts = {"dev_parts": ("dev-clean",), "test_parts": ("test-clean",)}
    parts |= {"train_parts": ("train-clean-5", "train-clean-100")}
    splits = load(config(small, **parts), small).splits
    assert [len(utterances) for utterances in splits.values()] == [27, 3, 3]
    assert speakers(splits["dev"]) == {"30"} and speakers(splits["test"]) == {"40"}


def test_what_cannot_be_used_is_listed(small):
    part = small / "LibriSpeech" / "train-clean-5"
    (part / "0/10/0-10-0001.flac").unlink()
    (part / "1/10/1-10.trans.txt").unlink()
    path = part / "2/10/2-10.trans.txt"
    path.write_text("2-10-0000 CAFÉ\n\n2-10-0001\n2-10-0002 ROOM 9\n", encoding="utf-8")
    (part / "3/10/._3-10-0000.flac").write_bytes(b"of another system")
    corpus = librispeech.read(config(small), small)
    assert {(e.id, e.reason) for e in corpus.excluded} == {
        ("0-10-0001", f"no audio: {part / '0/10/0-10-0001.flac'}"),
        *((f"1-10-000{n}", f"no transcript in {part / '1/10/1-10.trans.txt'}") for n in range(3)),
        ("2-10-0000", f"{path}:1: 'É' is none of A to Z, apostrophe and space"),
        ("2-10-0001", f"{path}:3: no words"),
        ("2-10-0002", f"{path}:4: '9' is none of A to Z, apostrophe and space"),
    }
    assert {e.split for e in corpus.excluded} == {"train"}
    assert len(corpus.splits["train"]) + len(corpus.excluded) == 3 * SPEAKERS


@pytest.mark.parametrize("below", [".", "1/2"])
def test_a_part_without_speech_is_refused(tmp_path, below):
    part = tmp_path / "train-clean-5"
    (part / below).mkdir(parents=True)
    with pytest.raises(UserError, match=f"^{part}: no speech in it; expected .*NNNN.flac; delete"):
        load(config(tmp_path), tmp_path)


def test_any_folder_is_a_part(small):
    write_part(small / "LibriSpeech", "train-clean-5-more", [20])
    write_part(small, "dev rest.é", [30])
    parts = {"train_parts": ("train-clean-5", "train-clean-5-more"), "dev_parts": ("dev rest.é",)}
    splits = load(config(small, **parts), small).splits
    assert "20" in speakers(splits["train"] + splits["test"]) and speakers(splits["dev"]) == {"30"}
    load_config(None, ["corpus.train_parts=[train-clean-5-more,dev rest.é]"])


def test_a_part_that_is_nowhere_is_named_before_any_download(small):
    write_part(small, "mine", [20])
    parts = {"train_parts": ("train-clean-100", "train-clean-5"), "dev_parts": ("train-clean-50",)}
    with pytest.raises(UserError) as caught:
        load(config(small, **parts), small)
    assert str(caught.value) == (
        f"{small}: no part 'train-clean-50' in it; there are LibriSpeech, mine, train-clean-5; "
        f"parts that can be downloaded: {', '.join(openslr.PARTS)}"
    )
    (small / "train-clean-100").touch()
    with pytest.raises(
        UserError, match="^.*/train-clean-100: a file, but a part of LibriSpeech is"
    ):
        load(config(small, train_parts=("train-clean-100",)), small)


MORE_FORMATS = ("nist", "caf", "w64", "rf64", "aifc", "snd", "oga")


@pytest.mark.parametrize(
    "file",
    ["anna-1.wav", "anna-1.WAV", "anna_1.Opus", "x1.mp3", *(f"a.{s}" for s in MORE_FORMATS)],
)
def test_own_recordings_in_this_layout_are_read(tmp_path, file):
    place = tmp_path / "train-clean-5" / "anna" / "1"
    place.mkdir(parents=True)
    (place / file).touch()
    (place / f"{Path(file).stem}.flac.txt").touch()
    (place / "anna_1.trans.txt").write_text(f"\ufeff{Path(file).stem}\tGO ON\r\n")
    corpus = librispeech.read(config(tmp_path), tmp_path)
    assert corpus.splits["train"] == [
        Utterance(Path(file).stem, "anna", str(place / file), "GO ON")
    ]
    assert not corpus.excluded


def test_of_two_files_of_one_name_flac_is_read(small):
    path = small / "LibriSpeech/train-clean-5/0/10/0-10-0000"
    for suffix in (".mp3", ".wav"):
        path.with_suffix(suffix).touch()
    first = librispeech.read(config(small), small).splits["train"][0]
    assert first.audio == f"{path}.flac"


def test_a_folder_with_files_is_never_to_be_deleted(tmp_path):
    place = tmp_path / "train-clean-5" / "anna" / "1"
    place.mkdir(parents=True)
    for name in ("a.m4a", "b.m4a", "anna-1.trans.txt"):
        (place / name).touch()
    with pytest.raises(UserError, match=r"no speech in it; .*; its files are: 2 .m4a, 1 .txt$"):
        load(config(tmp_path), tmp_path)


def test_speech_without_transcripts_is_of_other_speakers(small):
    part = write_part(small, "train-other-500", range(3, 9), chapter=11)
    for path in part.rglob("*.trans.txt"):
        path.write_bytes(b"\xff never read")
    chosen = config(small, untranscribed_parts=("train-other-500",))
    untranscribed = load(chosen, small).splits["untranscribed"]
    assert speakers(untranscribed) == {"6", "7", "8"} and len(untranscribed) == 9
    assert {u.text for u in untranscribed} == {None}
    shutil.rmtree(part)
    write_part(small, "train-other-500", range(3), chapter=11)
    with pytest.raises(UserError, match="untranscribed: no utterances in this split"):
        load(chosen, small)


# --- downloads ----------------------------------------------------------------------------------


ARCHIVE = "/31/train-clean-5.tar.gz"


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> bytes:
    """The archive of a part, in the layout of openslr.org."""
    folder = tmp_path_factory.mktemp("packed")
    write_part(folder / "LibriSpeech", "train-clean-5")
    (folder / "LibriSpeech" / "README.TXT").write_text("about")
    archive = shutil.make_archive(str(folder / "part"), "gztar", folder, "LibriSpeech")
    return Path(archive).read_bytes()


@pytest.fixture
def mirror(packed, monkeypatch):
    """A mirror of train-clean-5 whose check sum passes for the real one."""
    expected = download.CheckSum("md5", hashlib.md5(packed).hexdigest())  # noqa: S324
    monkeypatch.setitem(openslr.PARTS, "train-clean-5", openslr.Part(31, 1e5, expected))
    monkeypatch.setattr(download, "SCHEME", pretended.SCHEME)
    monkeypatch.setattr(download, "BLOCK_BYTES", 500)
    with pretended.serve() as mirror:
        monkeypatch.setattr(openslr, "MIRRORS", (mirror.address,))
        mirror.files[ARCHIVE] = packed
        yield mirror


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_download_once(mirror, tmp_path, capsys):
    first = load(config(tmp_path), tmp_path)
    assert mirror.asked == [(ARCHIVE, 0)]
    assert names(tmp_path) == ["LibriSpeech"]
    assert names(tmp_path / "LibriSpeech") == ["README.TXT", "train-clean-5"]
    assert capsys.readouterr().out == (
        f"  downloading train-clean-5 of LibriSpeech (0.00 GB) to {tmp_path}\n"
        "  unpacking train-clean-5\n"
    )
    assert load(config(tmp_path), tmp_path) == first and len(mirror.asked) == 1
    assert sum(map(len, first.splits.values())) == 3 * SPEAKERS


def test_a_dry_run_fetches_nothing(mirror, packed, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["corpus", "--dry-run", "--data-dir", ".", "--exp-dir", "exp"]
    for name in (None, "train-clean-5.tar.gz", ".train-clean-5.tar.gz"):
        if name is not None:
            (tmp_path / name).write_bytes(packed)
        before = names(tmp_path)
        assert main([*arguments, "corpus.name=librispeech"]) == 0
        expected = "  would run: train-clean-5 of LibriSpeech is missing; would download it\n"
        assert capsys.readouterr().out == expected
        assert mirror.asked == [] and names(tmp_path) == before
    assert main([*arguments, "align.lexicon=librispeech-lexicon.txt", "corpus.name=demo"]) == 0
    assert "would run: librispeech-lexicon.txt of LibriSpeech is missing" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "size", "asked"),
    [("..train-clean-5.tar.gz.part", 700, [700]), (".train-clean-5.tar.gz", None, [])],
)
def test_a_killed_download_or_unpacking_resumes(mirror, packed, tmp_path, name, size, asked):
    (tmp_path / name).write_bytes(packed[:size])
    (tmp_path / "..train-clean-5.tar.gz.unpacked").mkdir()
    load(config(tmp_path), tmp_path)
    assert [start for _, start in mirror.asked] == asked and names(tmp_path) == ["LibriSpeech"]


def test_an_archive_of_the_user_is_checked_and_stays(mirror, packed, tmp_path):
    given = tmp_path / "train-clean-5.tar.gz"
    given.write_bytes(packed[:-1])
    with pytest.raises(UserError, match=f"^{given}: md5 is .*, expected .*; delete it to"):
        load(config(tmp_path), tmp_path)
    assert names(tmp_path) == [given.name]
    given.write_bytes(packed)
    load(config(tmp_path), tmp_path)
    assert mirror.asked == [] and names(tmp_path) == ["LibriSpeech", given.name]


def test_a_damaged_download_is_named_and_leaves_nothing(mirror, tmp_path):
    mirror.files[ARCHIVE] += b"x"
    message = f"train-clean-5 of LibriSpeech is not in {tmp_path} and cannot be"
    with pytest.raises(UserError, match=rf"^{message} .* \(.*: md5 is .*$"):
        load(config(tmp_path), tmp_path)
    assert names(tmp_path) == []


def test_an_archive_without_the_part(mirror, tmp_path, monkeypatch):
    monkeypatch.setitem(openslr.PARTS, "dev-clean-2", openslr.PARTS["train-clean-5"])
    mirror.files["/31/dev-clean-2.tar.gz"] = mirror.files[ARCHIVE]
    with pytest.raises(UserError, match="does not contain LibriSpeech/dev-clean-2"):
        load(config(tmp_path, dev_parts=("dev-clean-2",)), tmp_path)
    assert names(tmp_path / "LibriSpeech") == ["README.TXT", "train-clean-5"]


def test_a_disk_without_room(mirror, tmp_path, monkeypatch):
    monkeypatch.setattr(openslr.shutil, "disk_usage", lambda folder: SimpleNamespace(free=10**9))
    load(config(tmp_path), tmp_path)
    with pytest.raises(UserError, match=r"1.00 GB are free, .* train-clean-100 takes 12.80 GB"):
        load(config(tmp_path, train_parts=("train-clean-100",)), tmp_path)


def test_the_folder_for_downloads(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = replace(config(tmp_path), data_dir=None)
    assert data_dir(given) == tmp_path / "exp" / "librispeech-data"
    with pytest.raises(UserError, match="nowhere: no such folder; .*; make it, to download"):
        load(config(tmp_path / "nowhere"), tmp_path)
    monkeypatch.setenv("ACOUSTIC_KD_DATA", str(tmp_path))
    assert data_dir(given) == tmp_path


def test_every_part_can_be_asked_for(monkeypatch):
    monkeypatch.undo()
    for part in openslr.PARTS:
        assert load_config(None, [f"corpus.train_parts={part}"]).corpus.train_parts == (part,)
    sums = [part.expected for part in openslr.PARTS.values()]
    assert all(len(s.value) == {"md5": 32, "sha256": 64}[s.kind] for s in sums)
    assert {part.resource for part in openslr.PARTS.values()} == {12, 31}
    assert len(openslr.MIRRORS) > 1
    assert all(mirror.startswith("https://") for mirror in openslr.MIRRORS)


# --- recipes and the real corpus ----------------------------------------------------------------


def test_the_paper_s_recipe_has_the_paper_s_sizes():
    loaded = load_config(CONF / "librispeech_960_paper.yaml", [])
    assert (loaded.model.layers, loaded.model.width, loaded.senones.leaves) == (8, 2560, 14000)
    assert (loaded.train.members, loaded.soft_targets.temperature) == (10, 2.0)
    assert loaded.distill.hard_weight == 0.5


def test_real_corpus(shared_data):
    if not (shared_data / "LibriSpeech" / "train-clean-5").is_dir():
        pytest.skip(f"no LibriSpeech/train-clean-5 in {shared_data}")
    config = CorpusConfig(
        name="librispeech", test_speakers=3, dev_speakers=3, data_dir=str(shared_data)
    )
    corpus = load(config, Path())
    assert corpus.excluded == []
    splits = corpus.splits
    assert [len(speakers(splits[split])) for split in ("train", "dev", "test")] == [16, 3, 3]
    everything = [utterance for split in splits.values() for utterance in split]
    assert len(speakers(everything)) == 22
    assert sum(len(utterance.text.split()) for utterance in everything) == 31_773
    hours = sum(soundfile.info(utterance.audio).duration for utterance in everything) / 3600
    assert hours == pytest.approx(3.22, abs=0.01)
    assert np.abs(read_audio(splits["test"][0], 16000)).max() > 0.01


def test_parts_of_the_users_own(shared_data):
    """Flac and Ogg Vorbis in train; MP3 in dev and test."""
    recipe = load_config(CONF / "mini_librispeech_mp3.yaml", []).corpus
    parts = [*recipe.train_parts, *recipe.dev_parts, *recipe.test_parts]
    if missing := [p for p in parts if not (shared_data / "LibriSpeech" / p).is_dir()]:
        pytest.skip(f"no LibriSpeech/{missing[0]} in {shared_data}")
    corpus = load(replace(recipe, data_dir=str(shared_data)), Path())
    assert corpus.excluded == []
    found = {
        split: (len(speakers(spoken)), sum(len(u.text.split()) for u in spoken))
        for split, spoken in corpus.splits.items()
    }
    assert found == {"train": (22, 46_949), "dev": (10, 12_381), "test": (10, 13_623)}
    assert np.abs(read_audio(corpus.splits["dev"][0], 16000)).max() > 0.01
