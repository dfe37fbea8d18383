"""Readers of corpora that other packages bring as entry points."""

import re
import sys
from pathlib import Path

import pytest

from acoustic_kd.cli import main
from acoustic_kd.corpora.load import data_dir, load
from acoustic_kd.corpora.utterances import Utterance
from acoustic_kd.settings import Config, CorpusConfig, check_values, from_flat, load_config
from acoustic_kd.system.errors import UserError

PAGE = (Path(__file__).parents[2] / "docs" / "corpora.md").read_text(encoding="utf-8")
IMPORTS = "from acoustic_kd.corpora.utterances import Corpus, Exclusion, Utterance\n"
UTTERANCE = "Utterance('a', 's', '/a', 'GO')"
GOOD = f"{IMPORTS}def read(config, folder, normalise): return Corpus({{'train': [{UTTERANCE}]}})"


@pytest.fixture
def install(tmp_path, monkeypatch):
    """install(source) puts a package on the path whose entry point `mine` is its `read`."""

    def install(source, name="mine", package="mine-reader"):
        site = tmp_path / package
        folder = site / f"{package.replace('-', '_')}-1.2.dist-info"
        folder.mkdir(parents=True)
        (site / "mine_reader.py").write_text(source, encoding="utf-8")
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
        entry = f"[acoustic_kd.corpora]\n{name} = mine_reader:read\n"
        (folder / "entry_points.txt").write_text(entry)
        monkeypatch.syspath_prepend(str(site))

    yield install
    sys.modules.pop("mine_reader", None)


def config(folder, **changes) -> CorpusConfig:
    return CorpusConfig(**({"name": "mine", "data_dir": str(folder)} | changes))


def test_the_example_of_the_page(install, tmp_path):
    entry, code = re.findall(r"^```(?:python|toml)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert '[project.entry-points."acoustic_kd.corpora"]\nmine = ' in entry
    install(code)
    rows = "".join(f"{s}-{n},{s},{s}.wav,go  on\n" for s in "abc" for n in range(2))
    (tmp_path / "all.csv").write_text(rows)
    corpus = load(config(tmp_path), tmp_path)
    everything = [utterance for split in corpus.splits.values() for utterance in split]
    assert len(everything) == 6 and list(corpus.splits) == ["train", "dev", "test"]
    assert Utterance("a-0", "a", str(tmp_path / "a.wav"), "GO ON") in everything
    assert load_config(None, ["corpus.name=mine"]).corpus.name == "mine"


def test_a_reader_gets_its_settings_a_folder_or_a_file_and_the_normalisation(install, tmp_path):
    install(IMPORTS + "def read(*given): raise ValueError(*given)")
    for given in (tmp_path, tmp_path / "x.csv"):
        given.exists() or given.touch()
        assert data_dir(config(given)) == given
        with pytest.raises(UserError, match=r"ValueError: \(CorpusConfig\(name='mine', .*Path\("):
            load(config(given), tmp_path)
    with pytest.raises(UserError, match="none: no such file or folder; corpus 'mine' is read from"):
        load(config(tmp_path / "none"), tmp_path)
    with pytest.raises(UserError, match="corpus 'mine' is read from a folder: give --data-dir"):
        load(config(tmp_path, data_dir=None), tmp_path)


def corpus_of(change: str) -> str:
    return GOOD.replace(UTTERANCE, change)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import nowhere", "cannot be imported (ModuleNotFoundError: No module named 'nowhere')"),
        ("raise ValueError('two\\n lines')", "cannot be imported (ValueError: two lines)"),
        ("def read(:", "cannot be imported (SyntaxError: "),
        ("write = 3", "cannot be imported (AttributeError: module 'mine_reader' has no attri"),
        ("read = 3", "is no function, but of type int"),
        ("def read(): pass", "failed at "),
        ("def read(c, f, n):\n  return 1 / 0", "mine_reader.py:2 (ZeroDivisionError: division"),
        ("def read(c, f, n): return [1]", "returned a list, not a Corpus"),
        (IMPORTS + "def read(c, f, n): return Corpus({'dev': []})", "returned the splits ['dev']"),
        (GOOD.replace("'train'", "'train': [], 'valid'"), "the splits ['train', 'valid']; return"),
        (IMPORTS + "def read(c, f, n): return Corpus({'train': 3})", "failed at "),
        (corpus_of("'a'"), "returned 'a': must be an Utterance"),
        (corpus_of("Exclusion('a', 'b', 'c')"), "reason='c'): must be an Utterance"),
        (GOOD.replace("]})", "]}, excluded=['a'])"), "returned 'a': must be an Exclusion"),
        (GOOD.replace("]})", "]}, excluded=[Exclusion('a', 'b', 3)])"), "'reason' must be a text"),
        (corpus_of("Utterance(3, 's', '/a', 'GO')"), "'id' must be a text"),
        (corpus_of("Utterance('a', None, '/a', 'GO')"), "'speaker' must be a text"),
        (corpus_of("Utterance('a', 's', folder, 'GO')"), "'audio' must be a tex"),
        (corpus_of("Utterance('a', 's', 'a.wav', 'GO')"), "'audio' must be an absolute path"),
        (corpus_of("Utterance('a', 's', '/a', 'GO ')"), "'text' must be words with one space"),
        (corpus_of("Utterance('a', 's', '/a', '\\ud800')"), "has half of a character"),
        (corpus_of("Utterance('a', 's', '/a', '')"), "'text' must be words with one space"),
        (corpus_of("Utterance('a', 's', '/a', None)"), "'text' is missing; only untranscribed"),
        ("import sys\nsys.exit('two\\n lines')", "cannot be imported (SystemExit: two lines)"),
        ("import sys\ndef read(c, f, n):\n  sys.exit()", "mine_reader.py:3 (SystemExit"),
        (corpus_of("Utterance('a', 's', '/a', 'GO', 2.0, 1.0)"), "no sound in this segment"),
        (corpus_of("Utterance('a', 's', '/a', 'GO', 0, float('nan'))"), "must be "),
    ],
)
def test_a_reader_that_fails(install, tmp_path, source, message):
    install(source)
    with pytest.raises(UserError) as caught:
        load(config(tmp_path), tmp_path)
    text = str(caught.value)
    assert text.startswith("corpus 'mine' of mine-reader 1.2: mine_reader:read ")
    assert message in text and "\n" not in text


def test_an_error_for_the_user_passes_through(install, tmp_path, capsys):
    install(
        "from acoustic_kd.system.errors import UserError\n"
        "def read(config, folder, normalise): raise UserError(f'{folder}: no audio; fetch it')"
    )
    options = ["--data-dir", str(tmp_path), "--exp-dir", str(tmp_path / "exp"), "corpus.name=mine"]
    assert main(["corpus", *options]) == 2
    assert capsys.readouterr().err == (
        f"acoustic-kd corpus: error: {tmp_path}: no audio; fetch it\n"
    )


def test_a_reader_may_return_the_same_corpus_again(install, tmp_path):
    utterances = ", ".join(f"Utterance('{s}', '{s}', '/{s}', 'GO')" for s in "abcde")
    install(f"{IMPORTS}C = Corpus({{'train': [{utterances}]}})\ndef read(*given): return C")
    first, second = (load(config(tmp_path), tmp_path) for _ in range(2))
    assert first == second and len(first.splits) == 3


def test_two_packages_with_one_name(install, tmp_path):
    install(GOOD)
    install(GOOD, package="other-reader")
    message = "^corpus 'mine' is in mine-reader 1.2 and other-reader 1.2; uninstall one of them$"
    with pytest.raises(UserError, match=message):
        load(config(tmp_path), tmp_path)


def test_a_corpus_of_this_package_comes_first(install, tmp_path):
    install("raise ValueError", name="manifest")
    (tmp_path / "train.jsonl").write_text("")
    with pytest.raises(UserError, match="train: no utterances in this split of corpus 'manifest'"):
        load(config(tmp_path, name="manifest"), tmp_path)


def test_one_object_twice_is_refused_and_texts_of_untranscribed_speech_are_dropped(
    install, tmp_path
):
    speech = "one = [Utterance(s, s, f'/{s}', 'GO') for s in 'abcd']\n"
    splits = "{'train': one[:3], 'untranscribed': one[-c.seed:]}"
    install(f"{IMPORTS}{speech}def read(c, f, n): return Corpus({splits})")
    corpus = load(config(tmp_path, seed=1), tmp_path)
    assert corpus.splits["untranscribed"] == [Utterance("d", "d", "/d", None)]
    with pytest.raises(UserError, match="utterance id 'c' is used twice, by /c and by /c"):
        load(config(tmp_path, seed=2), tmp_path)


@pytest.mark.parametrize(
    ("name", "hint"), [("lhotze", "; did you mean 'lhotse'?"), ("min", "; did you mean 'mine'?"),
                       ("QQQQ", "")],
)  # fmt: skip
def test_an_unknown_name_is_refused_with_the_nearest(install, name, hint):
    install(GOOD)
    with pytest.raises(UserError) as caught:
        load_config(None, [f"corpus.name={name}"])
    assert str(caught.value) == (
        f"setting 'corpus.name' is {name}; it must be demo, an4, librispeech, kaldi_dir, "
        f"kaldi_feats, lhotse, manifest or mine{hint}"
    )


def test_an_experiment_outlives_the_package_of_its_reader():
    check_values({"corpus.name": "gone"})
    assert from_flat({"corpus.name": "gone"}).corpus.name == "gone" != Config().corpus.name
