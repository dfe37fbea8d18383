"""A model and a graph that sherpa-onnx reads, which runs on phones and in browsers, too.

Its decoder of CTC models over an FST expects a blank in column 0, and reads words as
`decoding.graph.emitted_words` says. Its front end gives Kaldi's log-mels; the model normalises them
over the recording.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from acoustic_kd.decoding.graph.emitted_words import COPIES, emitted_words
from acoustic_kd.decoding.graph.fst import map_fst, write_fst
from acoustic_kd.experiment.onnx_models import TRACED_FRAMES, NormalisedScores, write_onnx
from acoustic_kd.experiment.transcriber import Transcriber
from acoustic_kd.features.normalise import MIN_VARIANCE, SILENCE_BELOW, SILENCE_LEVEL, Moments
from acoustic_kd.system.files import write_text

BLANK = -1e4  # score of the blank, which no arc of the graph has
# Cost of ending where the graph does not end: without it sherpa-onnx gives no words at all where
# our own search gives those of the best partial path.
UNFINISHED = 1e3
MODEL, GRAPH, TOKENS, WORDS = "model.onnx", "HCLG.fst", "tokens.txt", "words.txt"

USE = """```python
import numpy as np
import sherpa_onnx
import soundfile
from sherpa_onnx.lib import _sherpa_onnx as sherpa

recognizer = sherpa.OfflineRecognizer(sherpa.OfflineRecognizerConfig(
    feat_config=sherpa.FeatureExtractorConfig(
        sampling_rate={sample_rate}, feature_dim={mel_bins}, low_freq={low_hz:g},
        high_freq={high_hz:g}, normalize_samples=False, snip_edges=True),
    model_config=sherpa.OfflineModelConfig(
        tdnn=sherpa.OfflineTdnnModelConfig(model="{folder}/model.onnx"),
        tokens="{folder}/tokens.txt", model_type="tdnn"),
    ctc_fst_decoder_config=sherpa.OfflineCtcFstDecoderConfig(
        graph="{folder}/HCLG.fst", max_active={max_active})))
words = [line.rsplit(" ", 1)[0] for line in open("{folder}/words.txt", encoding="utf-8")]
samples, rate = soundfile.read("talk.wav", dtype="float32")
stream = recognizer.create_stream()
stream.accept_waveform(rate, samples)
recognizer.decode_stream(stream)
print(" ".join(words[number] for number in stream.result.words))
```"""


class SherpaScores(nn.Module):
    """Log-mels [1, T, D] of one recording → scores [1, T, 1 + COPIES · K].

    Args:
        moments: of global normalisation; None: those of the recording.
    """

    def __init__(self, scores: NormalisedScores, moments: Moments | None) -> None:
        super().__init__()
        self.scores, self.fixed = scores, None
        if moments is not None:
            values = moments.mean, moments.deviation
            self.fixed = tuple(torch.from_numpy(value).float() for value in values)

    def forward(self, log_mels: Tensor) -> Tensor:
        """The blank's score, then those of each copy of the senones."""
        frames = log_mels[0]
        level = frames.mean(1)
        silence = (level.max() - SILENCE_BELOW).clamp(max=SILENCE_LEVEL)
        heard = (level >= silence).float()[:, None]
        if self.fixed is not None:
            mean, deviation = self.fixed
        else:
            mean = (heard * frames).sum(0) / heard.sum()
            variance = (heard * (frames - mean).square()).sum(0) / heard.sum()
            deviation = variance.clamp(min=MIN_VARIANCE).sqrt()
        _, scores = self.scores(frames, mean, deviation, silence)
        blank = torch.full_like(scores[:, :1], BLANK)
        return torch.cat([blank, *COPIES * [scores]], dim=1)[None]


def write_sherpa(transcriber: Transcriber, folder: Path, name: str) -> str:
    """Write model, graph, words and tokens into a folder; returns how they are used, for a card."""
    acoustics, features = transcriber.acoustics, transcriber.features
    lm_weight, penalty = transcriber.weights
    module = SherpaScores(NormalisedScores(acoustics, 1 / lm_weight), transcriber.train_moments)
    example = {"log_mels": torch.zeros(1, TRACED_FRAMES, features.mel_bins)}
    senones = len(acoustics.log_prior)
    model = write_onnx(module, example, ["scores"], frames_axis=1)
    model.metadata_props.add(key="vocab_size", value=str(1 + COPIES * senones))
    model.metadata_props.add(key="model_type", value="tdnn")
    (folder / MODEL).write_bytes(model.SerializeToString())
    graph = transcriber.experiment.path("graph")
    fst = emitted_words(map_fst(graph / "HCLG.fst", senones), senones)
    fst.arcs["ilabel"] += fst.arcs["ilabel"] > 0  # label 1 is the blank
    fst.arcs["weight"] += np.float32(penalty) * (fst.arcs["olabel"] > 0)
    fst.final[np.isinf(fst.final)] = UNFINISHED
    write_fst(fst, folder / GRAPH)
    (folder / WORDS).write_bytes((graph / WORDS).read_bytes())
    names = transcriber.inventory.names()
    tokens = ["<blk>", *(f"{name}.{copy}" for copy in range(COPIES) for name in names)]
    write_text(folder / TOKENS, "".join(f"{name} {n}\n" for n, name in enumerate(tokens)))
    return USE.format(
        folder=name,
        sample_rate=features.sample_rate,
        mel_bins=features.mel_bins,
        low_hz=features.low_hz,
        high_hz=features.high_hz,
        max_active=transcriber.decoder.settings.max_active,
    )
