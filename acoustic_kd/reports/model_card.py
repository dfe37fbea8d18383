"""The model card of a bundle: README.md, with the metadata that the Hugging Face hub reads."""

from pathlib import Path

import yaml

from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.reports.deployment import CAPTION as DEPLOYMENT_CAPTION
from acoustic_kd.reports.deployment import deployment_rows, read_deployment
from acoustic_kd.reports.stored import read_results
from acoustic_kd.reports.tables import as_markdown, wer_first

# Corpus → its name, and the licence of its recordings.
DATA = {
    "an4": ("CMU AN4", "free for any use"),
    "librispeech": ("LibriSpeech", "CC BY 4.0"),
    "demo": ("sentences that eSpeak NG speaks", "no restrictions"),
}
NOT_STATED = "not stated"


def model_card(
    experiment: Experiment, model: str, folder: Path, name: str, use: str, license_text: str = ""
) -> str:
    """The text of the card.

    Args:
        model: what the experiment calls it.
        folder: of the bundle; the sizes of its files are in the card.
        name: of the bundle.
        use: how it is used.
        license_text: of the training data.
    """
    corpus = experiment.config.corpus.name
    data, known = DATA.get(corpus, (NOT_STATED, NOT_STATED))
    results = read_results(experiment.directory)
    made = f" Made by:\n\n```sh\n{results['command']}\n```" if "command" in results else ""
    rows = deployment_rows(read_deployment(experiment.directory))
    formats = ["\n".join(as_markdown(rows)), DEPLOYMENT_CAPTION] if rows else []
    files = [[f.name, f"{f.stat().st_size / 1e6:.2f}"] for f in sorted(folder.iterdir())]
    metadata = {"tags": ["automatic-speech-recognition", "knowledge-distillation"]}
    sections = [
        f"---\n{yaml.safe_dump(metadata)}---",
        f"# {name}",
        f"A speech recogniser: the acoustic model `{model}`, a decoding graph and all settings. "
        "Made with acoustic_kd, which distils ensembles of acoustic models ([Hinton, Vinyals and "
        f"Dean, 2015](https://arxiv.org/abs/1503.02531)). Training data: {data}. Licence of the "
        f"data: {license_text or known}.",
        use,
        "## Results",
        "\n".join(as_markdown(wer_first(results))),
        "In percent; 95 %: a bootstrap interval." + made,
        *formats,
        "## Files",
        "\n".join(as_markdown([["file", "MB"], *files])),
    ]
    return "\n\n".join(sections) + "\n"
