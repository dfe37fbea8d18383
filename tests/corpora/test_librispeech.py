"""LibriSpeech: a small tree in its layout, downloads, and the real corpus."""

import io
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import mirror as pretended
import numpy as np
import pytest
import soundfile

from acoustic_kd.cli import main
from acoustic_kd.corpora import librispeech as librispeech
from acoustic_kd.corpora import openslr as openslr
from acoustic_kd.corpora.load import data_dir, load
from acoustic_kd.features.audio import read_audio
from acoustic_kd.settings import LIBRISPEECH_PARTS, CorpusConfig, load_config
from acoustic_kd.system import download as download
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import check_sum

CONF = Path(__file__).parents[2] / "recipes" / "conf"
SPEAKERS, SENTENCES = 6, ("HELLO", "IT'S ME", "GO  on")


def write_part(folder, name, speakers=range(SPEAKERS), chapter=10):
    """A part of speakers with one chapter of three sentences each."""
    for speaker in speakers:
        place = folder / name / str(speaker) / str(chapter)
        place.mkdir(parents=True)
        stem = f"{speaker}-{chapter}"
        for number in range(len(SENTENCES)):
            samples = np.full(160 + number, 0.25, np.float32)
            soundfile.write(place / f"{stem}-{number:04d}.flac", samples, 16000)
        lines = [f"{stem}-{number:04d} {text} \n" for number, text in enumerate(SENTENCES)]
        (place / f"{stem}.trans.txt").write_text("".join(lines))
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
    np.testing.assert_array_equal(read_audio(second, 16000), np.full(161, 0.25))
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
    with pytest.raises(UserError, match=r"train: 7 of 18 utterances cannot be used"):
        load(config(small), small)


@pytest.mark.parametrize("below", [".", "1/2"])
def test_a_part_without_speech_is_refused(tmp_path, below):
    part = tmp_path / "train-clean-5"
    (part / below).mkdir(parents=True)
    with pytest.raises(UserError, match=f"^{part}: no speech in it; expected .*NNNN.flac; delete"):
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


def pack(folder, name) -> bytes:
    """The archive of a part, in the layout of openslr.org."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.add(folder, "LibriSpeech", recursive=False)
        note = tarfile.TarInfo("LibriSpeech/README.TXT")
        note.size = 5
        tar.addfile(note, io.BytesIO(b"about"))
        tar.add(folder / name, f"LibriSpeech/{name}")
    return packed.getvalue()


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A mirror of train-clean-5 whose check sum passes for the real one."""
    made = tmp_path / "made"
    write_part(made, "train-clean-5")
    archive = made / "packed"
    archive.write_bytes(pack(made, "train-clean-5"))
    expected = download.CheckSum("md5", check_sum(archive, "md5"))
    monkeypatch.setitem(openslr.PARTS, "train-clean-5", openslr.Part(31, 1e5, expected))
    monkeypatch.setattr(download, "SCHEME", pretended.SCHEME)
    monkeypatch.setattr(download, "BLOCK_BYTES", 500)
    with pretended.serve() as mirror:
        monkeypatch.setattr(openslr, "MIRRORS", (mirror.address,))
        mirror.files["/31/train-clean-5.tar.gz"] = archive.read_bytes()
        yield mirror


@pytest.fixture
def empty(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_download_once(mirror, empty, capsys):
    first = load(config(empty), empty)
    assert mirror.asked == [("/31/train-clean-5.tar.gz", 0)]
    assert names(empty) == ["LibriSpeech"]
    assert names(empty / "LibriSpeech") == ["README.TXT", "train-clean-5"]
    assert capsys.readouterr().out == (
        f"  downloading train-clean-5 of LibriSpeech (0.00 GB) to {empty}\n"
        "  unpacking train-clean-5\n"
    )
    assert load(config(empty), empty) == first and len(mirror.asked) == 1
    assert sum(map(len, first.splits.values())) == 3 * SPEAKERS


def test_a_dry_run_fetches_nothing(mirror, empty, capsys, monkeypatch):
    monkeypatch.chdir(empty)
    content = mirror.files["/31/train-clean-5.tar.gz"]
    arguments = ["corpus", "--dry-run", "--data-dir", str(empty), "--exp-dir", str(empty / "exp")]
    for name in (None, "train-clean-5.tar.gz", ".train-clean-5.tar.gz"):
        if name is not None:
            (empty / name).write_bytes(content)
        before = names(empty)
        assert main([*arguments, "corpus.name=librispeech"]) == 0
        expected = "  would run: train-clean-5 of LibriSpeech is missing; would download it\n"
        assert capsys.readouterr().out == expected
        assert mirror.asked == [] and names(empty) == before
    assert main([*arguments, "align.lexicon=librispeech-lexicon.txt", "corpus.name=demo"]) == 0
    assert "would run: librispeech-lexicon.txt of LibriSpeech is missing" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "size", "asked"),
    [("..train-clean-5.tar.gz.part", 700, [700]), (".train-clean-5.tar.gz", None, [])],
)
def test_a_killed_download_or_unpacking_resumes(mirror, empty, name, size, asked):
    (empty / name).write_bytes(mirror.files["/31/train-clean-5.tar.gz"][:size])
    (empty / "..train-clean-5.tar.gz.unpacked").mkdir()
    load(config(empty), empty)
    assert [start for _, start in mirror.asked] == asked and names(empty) == ["LibriSpeech"]


def test_an_archive_of_the_user_is_checked_and_stays(mirror, empty):
    content = mirror.files["/31/train-clean-5.tar.gz"]
    given = empty / "train-clean-5.tar.gz"
    given.write_bytes(content[:-1])
    with pytest.raises(UserError, match=f"^{given}: md5 is .*, expected .*; delete it to"):
        load(config(empty), empty)
    assert names(empty) == [given.name]
    given.write_bytes(content)
    load(config(empty), empty)
    assert mirror.asked == [] and names(empty) == ["LibriSpeech", given.name]


def test_a_damaged_download_is_named_and_leaves_nothing(mirror, empty):
    mirror.files["/31/train-clean-5.tar.gz"] += b"x"
    with pytest.raises(UserError) as caught:
        load(config(empty), empty)
    message = str(caught.value)
    assert message.startswith(f"train-clean-5 of LibriSpeech is not in {empty} and cannot be")
    assert f"({mirror.address.split('/')[2]}: md5 is " in message and "\n" not in message
    assert names(empty) == []


def test_an_archive_without_the_part(mirror, empty, monkeypatch):
    part = openslr.PARTS["train-clean-5"]
    monkeypatch.setitem(openslr.PARTS, "dev-clean-2", part)
    mirror.files["/31/dev-clean-2.tar.gz"] = mirror.files["/31/train-clean-5.tar.gz"]
    with pytest.raises(UserError, match="does not contain LibriSpeech/dev-clean-2"):
        load(config(empty, dev_parts=("dev-clean-2",)), empty)
    assert names(empty / "LibriSpeech") == ["README.TXT", "train-clean-5"]


def test_a_disk_without_room(mirror, empty, monkeypatch):
    monkeypatch.setattr(openslr.shutil, "disk_usage", lambda folder: SimpleNamespace(free=10**9))
    load(config(empty), empty)
    with pytest.raises(UserError, match=r"1.00 GB are free, .* train-clean-100 takes 12.80 GB"):
        load(config(empty, train_parts=("train-clean-100",)), empty)


def test_the_folder_for_downloads(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = replace(config(tmp_path), data_dir=None)
    assert data_dir(given) == tmp_path / "exp" / "librispeech-data"
    with pytest.raises(UserError, match="nowhere: no such folder; .*; make it, to download"):
        load(config(tmp_path / "nowhere"), tmp_path)
    with pytest.raises(UserError, match="leads to ftp://nowhere/31/.*, which is not https"):
        load(given, tmp_path)
    monkeypatch.setenv("ACOUSTIC_KD_DATA", str(tmp_path))
    assert data_dir(given) == tmp_path


def test_every_part_can_be_asked_for(monkeypatch):
    monkeypatch.undo()
    assert sorted(openslr.PARTS) == sorted(LIBRISPEECH_PARTS)
    digits = {"md5": 32, "sha256": 64}
    for part in openslr.PARTS.values():
        assert len(part.expected.value) == digits[part.expected.kind] and part.resource in (12, 31)
    assert len(openslr.MIRRORS) > 1
    assert all(mirror.startswith("https://") for mirror in openslr.MIRRORS)


# --- recipes and the real corpus ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["mini_librispeech", "librispeech_100", "librispeech_960_paper"])
def test_recipes_load(name):
    loaded = load_config(CONF / f"{name}.yaml", [])
    assert loaded.corpus.name == "librispeech"
    if name == "librispeech_960_paper":
        assert (loaded.model.layers, loaded.model.width, loaded.senones.leaves) == (8, 2560, 14000)
        assert (loaded.train.members, loaded.soft_targets.temperature) == (10, 2.0)
        assert loaded.distill.hard_weight == 0.5


def test_real_corpus(shared_data):
    if not (shared_data / "LibriSpeech" / "train-clean-5").is_dir():
        pytest.skip(f"no LibriSpeech/train-clean-5 in {shared_data}")
    recipe = load_config(CONF / "mini_librispeech.yaml", []).corpus
    corpus = load(replace(recipe, data_dir=str(shared_data)), Path())
    assert corpus.excluded == []
    splits = corpus.splits
    assert [len(speakers(splits[split])) for split in ("train", "dev", "test")] == [16, 3, 3]
    everything = [utterance for split in splits.values() for utterance in split]
    assert len(speakers(everything)) == 22
    assert sum(len(utterance.text.split()) for utterance in everything) == 31_773
    hours = sum(soundfile.info(utterance.audio).duration for utterance in everything) / 3600
    assert hours == pytest.approx(3.22, abs=0.01)
    assert np.abs(read_audio(splits["test"][0], 16000)).max() > 0.01
