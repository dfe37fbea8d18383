"""HCLG: the decoding graph of a language model, built without Kaldi."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import kaldifst
import numpy as np

from acoustic_kd.decoding.arpa import BOS, EOS, iterate_arpa, open_arpa
from acoustic_kd.decoding.compose import Inventory, compile_graph, self_loop_probability
from acoustic_kd.decoding.fst_arrays import save_fst
from acoustic_kd.decoding.lexicon_fst import make_lexicon_fst
from acoustic_kd.errors import UserError
from acoustic_kd.files import write_json, write_text
from acoustic_kd.lexicon import Lexicon

UNKNOWN = ("<unk>", "<UNK>")  # not decoded: n-grams with them are left out


def build_graph(
    lexicon: Lexicon,
    arpa_path: Path,
    inventory: Inventory,
    out_dir: Path,
    mean_duration: np.ndarray | None = None,
    silence_probability: float = 0.5,
    left_out: Collection[str] = (),
) -> dict[str, Any]:
    """Build the decoding graph of a language model; write `HCLG.fst`, `words.txt`, `graph.json`.

    Args:
        lexicon: pronunciations of every word the language model has (it may have more).
        arpa_path: n-gram model, plain or `.gz`.
        inventory: the senones.
        out_dir: where to write.
        mean_duration: [K] mean frames spent in a senone's HMM state at a visit; default 2 each.
        silence_probability: chance of silence at each word boundary and at both ends.
        left_out: words that the graph does without, with every n-gram that has one.

    Returns:
        The contents of `graph.json`: numbers of words, states, arcs, senones; seconds spent.

    Raises:
        UserError: the ARPA file is damaged, one of its words is not in the lexicon, or the
            lexicon's phones are not the inventory's.
    """
    began = time.monotonic()
    loop = self_loop_probability(mean_duration, inventory.num_senones)
    words = [word for word in arpa_words(arpa_path) if word not in left_out]
    lexicon_fst = make_lexicon_fst(lexicon, words, inventory.phones, silence_probability)
    symbols = ["<eps>", *lexicon_fst.words, "#0", BOS, EOS]
    words_txt = "".join(f"{word} {label}\n" for label, word in enumerate(symbols))
    grammar = _grammar(arpa_path, words_txt)
    graph = compile_graph(lexicon_fst, grammar, inventory, loop)
    out_dir = Path(out_dir)
    write_text(out_dir / "words.txt", words_txt)
    save_fst(graph, out_dir / "HCLG.fst")
    summary = {
        "words": len(lexicon_fst.words),
        "states": graph.num_states,
        "arcs": len(graph.arcs),
        "senones": inventory.num_senones,
        "seconds": round(time.monotonic() - began, 2),
    }
    write_json(out_dir / "graph.json", summary)
    return summary


def arpa_words(arpa_path: Path) -> list[str]:
    """The words of an ARPA file, after checking every line of it."""
    special = {BOS, EOS, *UNKNOWN}
    words = [e.words[0] for e in iterate_arpa(arpa_path) if len(e.words) == 1]
    words = [word for word in words if word not in special]
    if not words:
        raise UserError(f"language model {arpa_path}: no words in it; train it on other text")
    return words


def _grammar(arpa_path: Path, words_txt: str) -> kaldifst.StdVectorFst:
    """G, by kaldilm in a process of its own: it aborts on what it dislikes, and is talkative."""
    with tempfile.TemporaryDirectory() as folder:
        words, plain, fst = Path(folder, "words.txt"), Path(folder, "lm.arpa"), Path(folder, "G")
        words.write_text(words_txt, encoding="utf-8")
        if str(arpa_path).endswith(".gz"):
            with open_arpa(arpa_path) as file:
                plain.write_text(file.read(), encoding="utf-8")
        else:
            plain = Path(arpa_path)
        code = (
            "import sys, kaldilm; kaldilm.arpa2fst(sys.argv[1], sys.argv[2], disambig_symbol='#0',"
            "read_symbol_table=sys.argv[3], max_arpa_warnings=0)"
        )
        command = [sys.executable, "-c", code, str(plain), str(fst), str(words)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode or not fst.exists():
            why = [line for line in done.stderr.splitlines() if line.startswith("[E]")]
            reason = (
                why[-1].removeprefix("[E] ") if why else f"kaldilm ended with {done.returncode}"
            )
            raise UserError(f"language model {arpa_path}: cannot be made into a graph: {reason}")
        grammar = kaldifst.StdVectorFst.read(str(fst))
    kaldifst.connect(grammar)
    kaldifst.arcsort(grammar, "ilabel")
    return grammar
