"""The corpus stage: utterances, splits and the lexicon."""

from collections.abc import Iterable
from dataclasses import asdict
from functools import cache, lru_cache
from pathlib import Path

from acoustic_kd.alignment.pocketsphinx import bundled_lexicon
from acoustic_kd.corpora import load as corpora
from acoustic_kd.corpora import overlap, sound_files
from acoustic_kd.corpora.demo_sentences import vocabulary
from acoustic_kd.corpora.openslr import LEXICONS, fetch_file
from acoustic_kd.corpora.utterances import (
    SPLITS,
    UNTRANSCRIBED,
    Utterance,
    normalise_text,
    write_manifest,
)
from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.kaldi_targets import takes_pdfs
from acoustic_kd.experiment.language_model import check as check_language_model
from acoustic_kd.experiment.outputs import LEXICON, report_exclusions
from acoustic_kd.experiment.transfer_set import chosen_splits
from acoustic_kd.experiment.words import (
    check_leaves,
    is_spelled,
    normaliser,
    spelling_source,
    spoken_words,
    unknown_words_source,
    with_unknown_words,
)
from acoustic_kd.kaldi.archives import archive_of
from acoustic_kd.language.lexicon import Lexicon, read_lexicon, write_lexicon
from acoustic_kd.settings import Config
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import file_sha256, json_sha256, size_and_ends_digest


def corpus_sources(config: Config) -> dict[str, str]:
    """The utterances as read, with what is in each sound file, and the lexicon's text."""
    if takes_pdfs(config):
        sources = {"lexicon": "none"}
    else:
        sources = spelling_source(config) or {"lexicon": file_sha256(_lexicon_path(config))}
    words: Iterable[str] = map(normalise_text, vocabulary(config.corpus.demo_language))
    if corpora.data_dir(config.corpus) is not None:
        # Only the demo writes anything there.
        corpus = corpora.load(config.corpus, Path(), normaliser(config))
        rows = _source_rows(corpus.splits)
        sources["data"] = json_sha256([rows, [asdict(exclusion) for exclusion in corpus.excluded]])
        words = spoken_words(corpus.splits)
    elif more := corpora.read_untranscribed(config.corpus):
        sources["data"] = json_sha256(_source_rows({UNTRANSCRIBED: more}))
    return sources | unknown_words_source(config, _lexicon(config), words)


def _source_rows(splits: dict[str, list[Utterance]]) -> list[list]:
    """Every utterance with its split, and what its sound file, or archive, is known by."""
    mark = cache(size_and_ends_digest)
    return [
        [split, asdict(utterance), *mark(archive_of(utterance.audio))]
        for split, utterances in splits.items()
        for utterance in utterances
    ]


def run(experiment: Experiment) -> None:
    """Read the corpus; write a manifest a split, the lexicon and the exclusions."""
    out = experiment.path("corpus")
    config = experiment.config
    check_language_model(config)  # refused now, not when all is trained
    corpus = corpora.load(config.corpus, out / "audio", normaliser(config))
    chosen_splits(config, tuple(corpus.splits))  # likewise
    sound_files.check_exist(corpus.splits)
    notes = corpus.notes + overlap.check_sound(corpus.splits) + overlap.said_twice(corpus.splits)
    notes += map(overlap.shared_speakers_text, overlap.shared_speakers(corpus.splits))
    if not takes_pdfs(config):
        _check_transcribed(corpus.splits)
    for split, utterances in corpus.splits.items():
        write_manifest(out / f"{split}.jsonl", utterances)
        speakers = len({u.speaker for u in utterances})
        print(f"  {split}: {len(utterances)} utterances, {speakers} speakers")
    for note in notes:
        print(f"  {note}")
    if not takes_pdfs(config):
        given = _lexicon(config)
        _report(given)
        lexicon = with_unknown_words(experiment, given, spoken_words(corpus.splits))
        write_lexicon(out / LEXICON, lexicon, is_spelled(config))
        if is_spelled(config):
            check_leaves(config, lexicon)
    report_exclusions(out, corpus.excluded)


def _check_transcribed(splits: dict[str, list[Utterance]]) -> None:
    """Refuse a split without any transcript, which the align stage would refuse later."""
    for split in SPLITS:
        if all(utterance.text is None for utterance in splits[split]):
            raise UserError(
                f"{split}: no transcripts; add the file 'text' to the folder of this split "
                f"(speech without transcripts belongs in a folder '{UNTRANSCRIBED}')"
            )


def _report(lexicon: Lexicon) -> None:
    """Tell what the lexicon has, so that a field that is no phone is noticed."""
    if phones := lexicon.rarest_phones():
        rarest = ", ".join(f"{phone} (in {count} words)" for phone, count in phones[:5])
        print(f"  lexicon: {len(lexicon.entries)} words, {len(phones)} phones; rarest: {rarest}")
    for note in lexicon.notes:
        print(f"  lexicon: passed over {note}")


def _lexicon(config: Config) -> Lexicon:
    """The lexicon that is given; none where words are spelled, or nothing is said to be aligned."""
    if is_spelled(config) or takes_pdfs(config):
        return Lexicon({})
    path = _lexicon_path(config)
    return _read_once(path, file_sha256(path))


@lru_cache(maxsize=1)  # the sources ask for it, then the stage
def _read_once(path: Path, content: str) -> Lexicon:
    return read_lexicon(path)


def _lexicon_path(config: Config) -> Path:
    if config.align.lexicon is not None:
        given = Path(config.align.lexicon)
        if given.is_file():
            return given
        if config.align.lexicon in LEXICONS:
            return fetch_file(given.name, corpora.librispeech_dir(config.corpus))
        raise UserError(  # a pipe could be read only once
            f"setting 'align.lexicon' is {given}: no such file, and not {' or '.join(LEXICONS)}"
        )
    return corpora.corpus_lexicon(config.corpus) or bundled_lexicon()
