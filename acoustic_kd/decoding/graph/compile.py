"""HCLG: the decoding graph of a language model, built in arrays (see docs/design.md)."""

import resource
import sys
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from acoustic_kd.decoding.graph.contexts import Contexts, Inventory, contexts_of
from acoustic_kd.decoding.graph.fst import write_blocks
from acoustic_kd.decoding.graph.grammar import UNKNOWN_WORDS, Grammar, read_grammar
from acoustic_kd.decoding.graph.hmm_states import HmmBuilder, self_loop_probability
from acoustic_kd.decoding.graph.prefix_trees import build_trees, entries_of
from acoustic_kd.decoding.graph.pronunciations import pronunciations_of
from acoustic_kd.decoding.graph.triphones import TriphoneBuilder
from acoustic_kd.language.arpa import BOS, EOS, iterate_arpa, normalised_words
from acoustic_kd.language.lexicon import Lexicon, Pronunciation
from acoustic_kd.system.characters import visible
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import atomic_path, write_json, write_text

MIN_REPORTED_SECONDS = 10  # seconds before a step says that it is done
NO_COSTS: Mapping[Pronunciation, float] = {}


def build_graph(
    lexicon: Lexicon,
    arpa_path: Path,
    inventory: Inventory,
    out_dir: Path,
    mean_duration: np.ndarray | None = None,
    silence_probability: float = 0.5,
    left_out: Collection[str] = (),
    normalise: Callable[[str], str] = visible,
    costs: Mapping[Pronunciation, float] = NO_COSTS,
) -> dict[str, Any]:
    """Build the decoding graph of a language model; write `HCLG.fst`, `words.txt`, `graph.json`.

    Args:
        lexicon: pronunciations of every word the language model has (it may have more).
        arpa_path: n-gram model (ARPA).
        mean_duration: [K] mean frames spent in a senone's HMM state at a visit; default 2 each.
        silence_probability: chance of silence at each word boundary and at both ends.
        left_out: words that the graph does without, with every n-gram that has one.
        normalise: for the words of the n-gram model, as for transcripts.
        costs: of pronunciations (word, phones) that cost more than 0.

    Returns:
        The contents of `graph.json`: numbers of words, n-grams, states, arcs, senones; megabytes of
        HCLG.fst; seconds spent, and the most memory in GiB that this process has held until then.
    """
    reset_peak_memory()
    began = time.monotonic()
    loop = self_loop_probability(mean_duration, inventory.num_senones)
    grammar = read_grammar(arpa_path, left_out, normalise)
    ngrams, words = len(grammar.word), grammar.words
    _report_progress(began, f"{len(words)} words, {ngrams} n-grams read")
    builder = compile_graph(grammar, lexicon, inventory, loop, silence_probability, costs=costs)
    del grammar
    _report_progress(began, f"{builder.num_states} states found")
    out_dir = Path(out_dir)
    symbols = ["<eps>", *words, "#0", BOS, EOS]
    write_text(
        out_dir / "words.txt", "".join(f"{word} {label}\n" for label, word in enumerate(symbols))
    )
    path = out_dir / "HCLG.fst"
    with atomic_path(path) as temporary:
        arcs = write_blocks(temporary, builder.start, builder.final(), builder.blocks())
    summary = {
        "words": len(words),
        "ngrams": ngrams,
        "states": builder.num_states,
        "arcs": arcs,
        "senones": inventory.num_senones,
        "megabytes": round(path.stat().st_size / 1e6, 1),
        "seconds": round(time.monotonic() - began, 2),
        "peak_gib": round(peak_memory() / 2**30, 2),
    }
    write_json(out_dir / "graph.json", summary)
    return summary


def compile_graph(
    grammar: Grammar,
    lexicon: Lexicon,
    inventory: Inventory,
    self_loop: np.ndarray,
    silence_probability: float = 0.5,
    contexts: Contexts | None = None,
    costs: Mapping[Pronunciation, float] = NO_COSTS,
) -> HmmBuilder:
    """Find the states of H ∘ C ∘ L ∘ G; input labels are senone + 1.

    Args:
        lexicon: pronunciations of at least its words.
        self_loop: [K] self-loop probabilities.
        costs: as for `build_graph`.
    """
    if not 0 < silence_probability < 1:
        raise UserError(f"silence_probability: {silence_probability} is not between 0 and 1")
    prons = pronunciations_of(lexicon, grammar.words, inventory.phones, costs)
    contexts = contexts or contexts_of(inventory)
    entries = entries_of(grammar, prons)
    trees = build_trees(entries, prons)
    triphones = TriphoneBuilder(grammar, prons, entries, trees, contexts, silence_probability)
    return HmmBuilder(triphones.build(), contexts.senones, self_loop)


def arpa_words(arpa_path: Path, normalise: Callable[[str], str] = visible) -> list[str]:
    """The words of an ARPA file, normalised; its n-grams of more words are not looked at."""
    entries = list(takewhile(lambda entry: len(entry.words) == 1, iterate_arpa(arpa_path)))
    written = [entry.words[0] for entry in entries]
    words = normalised_words(written, [entry.logprob for entry in entries], normalise)
    return [word for word in words if word not in {"", BOS, EOS, *UNKNOWN_WORDS}]


def reset_peak_memory() -> None:
    """Let `peak_memory` count from now on; only Linux can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory() -> int:
    """The most bytes of memory that this process held, since the last reset."""
    # Kilobytes, but on macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _report_progress(began: float, what: str) -> None:
    """Tell how far it is, where it takes long."""
    if time.monotonic() - began > MIN_REPORTED_SECONDS:
        print(f"  graph: {what} ({time.monotonic() - began:.0f} s)", flush=True)
