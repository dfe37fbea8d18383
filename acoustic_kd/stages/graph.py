"""The graph stage: language model and decoding graph."""

from acoustic_kd.decoding.graph import build_graph
from acoustic_kd.lexicon import read_lexicon
from acoustic_kd.stages.experiment import Experiment
from acoustic_kd.stages.label import inventory_of, read_statistics
from acoustic_kd.stages.language_model import make_language_model
from acoustic_kd.stages.prepare import LEXICON


def run_graph(experiment: Experiment) -> None:
    """Fetch or train the language model, and build HCLG."""
    out = experiment.path("graph")
    lexicon = read_lexicon(experiment.path("corpus") / LEXICON)
    model = make_language_model(experiment, lexicon, out)
    _, durations = read_statistics(experiment.path("frames"))
    summary = build_graph(
        model.lexicon,
        model.path,
        inventory_of(experiment),
        out,
        durations,
        left_out=model.left_out,
    )
    print(
        f"  {summary['words']} words, {summary['ngrams']} n-grams; graph of {summary['states']} "
        f"states, {summary['arcs']} arcs, {summary['megabytes']:g} MB, made in "
        f"{summary['seconds']:.0f} s; peak memory {summary['peak_gib']:g} GiB"
    )
