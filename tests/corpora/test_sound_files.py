"""Where sound files are looked for, and what is said if they are not there."""

import pytest

from acoustic_kd.corpora.sound_files import check_exist, locate
from acoustic_kd.corpora.utterances import Utterance
from acoustic_kd.system.errors import UserError


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A data directory; the working and the home directory are other folders."""
    for name in ("data", "work", "home"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.wav").touch()
        (tmp_path / name / "all.wav").touch()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("data.wav", "data/data.wav"),
        ("all.wav", "data/all.wav"),
        ("work.wav", "work/work.wav"),
        ("~/home.wav", "home/home.wav"),
        ("none.wav", "data/none.wav"),
    ],
)
def test_a_relative_path_starts_at_the_data_or_the_working_directory(root, given, found):
    assert locate("f:1", given, root) == str(root.parent / found)
    absolute = str(root / "data.wav")
    assert locate("f:1", absolute, root / "elsewhere") == absolute


@pytest.mark.parametrize("given", ["wav.ark:123", "/far/wav.1.ark:5[0:9]"])
def test_a_place_in_an_archive_is_named(root, given):
    with pytest.raises(UserError, match=r"^f:1: '.*' is a place in an archive of sound"):
        locate("f:1", given, root)
    (root / "a.wav:7").touch()
    assert locate("f:1", "a.wav:7", root) == str(root / "a.wav:7")


def test_a_path_that_no_file_can_have(root):
    with pytest.raises(UserError, match=r"^f:1: the path has the character U\+0000 in it"):
        locate("f:1", "a\0.wav", root)
    with pytest.raises(UserError, match=r"^f:1: the path cannot be used \(File name too long\); c"):
        locate("f:1", "words in the wrong column " * 20, root)


def test_most_sound_files_of_a_split_must_exist(root):
    there = Utterance("a", "s", str(root / "all.wav"), "GO")
    gone = [Utterance(f"u{n}", "s", f"/far/{n}.wav", "GO") for n in range(2)]
    check_exist({"train": [there, gone[0]]})
    with pytest.raises(
        UserError,
        match=r"^test: 2 of 3 sound files do not exist, first /far/0.wav;"
        r" .* starts at the data directory or at the working directory, .*work$",
    ):
        check_exist({"train": [there], "test": [there, *gone]})  # fmt: skip
    for path in (r"C:\data\a.wav", "D:/a.wav", r"sub\a.wav"):
        windows = Utterance("a", "s", str(root / path), "GO")
        with pytest.raises(UserError, match=r"\(a Windows path\)"):
            check_exist({"train": [windows]})
