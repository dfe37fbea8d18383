"""The comparison of ways to say unknown words."""

import pytest

import g2p_study
from acoustic_kd.alignment.pocketsphinx import bundled_lexicon
from acoustic_kd.language.lexicon import Lexicon, read_lexicon, write_lexicon


@pytest.fixture
def words(tmp_path):
    whole = read_lexicon(bundled_lexicon())
    write_lexicon(tmp_path / "words.txt", whole.restricted_to(set(sorted(whole.entries)[::200])))
    return tmp_path / "words.txt"


def test_the_nearest_variant_counts():
    listed = Lexicon({"READ": (("R", "IY", "D"), ("R", "EH", "D")), "A": (("AH",), ("EY",))})
    right = {"READ": ("R", "EH", "D"), "A": ("EY",)}
    assert g2p_study.score(right, listed) == (0, 0)
    assert g2p_study.score(right | {"READ": ("R", "EH")}, listed) == (50, 25)
    assert g2p_study.score(right | {"READ": ()}, listed) == (50, 75)


def test_held_out_words_are_not_learnt(words):
    lexicon = read_lexicon(words)
    learnt, held_out = g2p_study.hold_out(lexicon, 40, 0)
    assert len(held_out.entries) == 40 and not set(learnt.entries) & set(held_out.entries)
    assert learnt.entries | held_out.entries == lexicon.entries
    assert g2p_study.hold_out(lexicon, 40, 0)[1] == held_out
    assert g2p_study.hold_out(lexicon, 40, 1)[1] != held_out


def test_ipa():
    assert g2p_study.cmu_phones("tʃˈɜːtʃ") == ("CH", "ER", "CH")
    assert g2p_study.cmu_phones("hˈaɪdɹənt") == ("HH", "AY", "D", "R", "AH", "N", "T")
    assert g2p_study.cmu_phones("ˈbɑːɾəl!") == ("B", "AA", "T", "AH", "L")


def test_the_table(words, capsys, monkeypatch):
    nowhere = g2p_study.ours, "a-package-that-is-not-there"
    monkeypatch.setitem(g2p_study.METHODS, "sequitur", nowhere)
    arguments = [str(words), "--held-out", "50", "--only", "acoustic_kd", "sequitur"]
    assert g2p_study.main(arguments) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[-1] == "| sequitur | | not installed | | |"
    name, wer, per, *_ = (cell.strip() for cell in rows[-2].strip("|").split("|"))
    assert name == "acoustic_kd" and 20 < float(wer) < 95 and 5 < float(per) < 60


@pytest.mark.parametrize("number", ["0", "100000"])
def test_too_many_words_held_out(words, capsys, number):
    assert g2p_study.main([str(words), "--held-out", number]) == 2
    assert f"--held-out {number}: give 1 to" in capsys.readouterr().err
    assert g2p_study.main([str(words.with_name("none.txt"))]) == 2
    assert "none.txt: cannot be read" in capsys.readouterr().err
