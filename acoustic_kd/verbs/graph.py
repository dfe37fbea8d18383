"""The graph stage: language model and decoding graph."""

from collections.abc import Mapping

from acoustic_kd.alignment.senones import read_statistics
from acoustic_kd.alignment.spoken_words import pronunciation_costs
from acoustic_kd.decoding.graph.compile import build_graph
from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.kaldi_targets import check_has_tree
from acoustic_kd.experiment.language_model import make_language_model
from acoustic_kd.experiment.outputs import (
    LEXICON,
    STATISTICS,
    inventory_of,
    read_aligned,
    read_split,
)
from acoustic_kd.experiment.words import check_spelled, is_spelled
from acoustic_kd.language.lexicon import Lexicon, Pronunciation, read_lexicon, write_lexicon


def run(experiment: Experiment) -> None:
    """Fetch or train the language model, and build HCLG."""
    check_has_tree(experiment)
    check_spelled(experiment)
    out = experiment.path("graph")
    lexicon = read_lexicon(experiment.path("corpus") / LEXICON)
    model = make_language_model(experiment, lexicon, out)
    if any(word not in lexicon for word in model.words):
        pronounced = model.lexicon.restricted_to(model.words)
        write_lexicon(out / LEXICON, pronounced, is_spelled(experiment.config))
    _, durations = read_statistics(experiment.path("frames") / STATISTICS)
    summary = build_graph(
        model.lexicon,
        model.path,
        inventory_of(experiment),
        out,
        durations,
        left_out=model.left_out,
        normalise=model.normalise,
        costs=_costs(experiment, lexicon) if experiment.config.lm.pronunciation_costs else {},
    )
    print(
        f"  {summary['words']} words, {summary['ngrams']} n-grams; graph of {summary['states']} "
        f"states, {summary['arcs']} arcs, {summary['megabytes']:g} MB, made in "
        f"{summary['seconds']:.0f} s; peak memory {summary['peak_gib']:g} GiB"
    )


def _costs(experiment: Experiment, lexicon: Lexicon) -> Mapping[Pronunciation, float]:
    """The costs of the pronunciations of the words in train, counted in its alignment."""
    aligned = read_aligned(experiment, "train")
    spoken = [
        (aligned[u.id], (u.text or "").split())
        for u in read_split(experiment, "train")
        if u.id in aligned
    ]
    costs = pronunciation_costs(spoken, lexicon)
    print(f"  {sum(cost > 0 for cost in costs.values())} rarer pronunciations in train cost more")
    return costs
