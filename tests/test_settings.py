"""Settings: what is read from YAML and the command line, and how each mistake is named."""

import contextlib
import dataclasses
import io
import json
from typing import get_args

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
import yaml
from scripts import REPOSITORY

from acoustic_kd.cli import main
from acoustic_kd.corpora import demo
from acoustic_kd.decoding.search import SearchSettings
from acoustic_kd.experiment.stages import STAGES
from acoustic_kd.experiment.training_jobs import control_settings
from acoustic_kd.experiment.transfer_set import encoding_of
from acoustic_kd.features.fbank import log_mels
from acoustic_kd.language.ngrams import train_lm
from acoustic_kd.settings import (
    SETTINGS,
    Config,
    all_settings,
    check_values,
    choices,
    load_config,
    member_models,
    shapes,
    shaping_settings,
    stage_settings,
)
from acoustic_kd.system import yaml_dataclasses
from acoustic_kd.system.errors import UserError
from acoustic_kd.training.batches import share_of_process
from acoustic_kd.training.ensemble import Mean
from acoustic_kd.training.networks import build_network
from acoustic_kd.training.schedule import State, rate_of_step


def from_yaml(folder, text, *overrides):
    path = folder / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, list(overrides))


def message_of(*overrides, path=None):
    with pytest.raises(UserError) as caught:
        load_config(path, list(overrides))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_without_anything_settings_are_the_defaults(tmp_path):
    assert load_config(None, []) == Config()
    assert from_yaml(tmp_path, "") == Config()
    assert from_yaml(tmp_path, "model:\n") == Config()


def test_the_command_line_wins_over_the_file_and_the_file_over_the_defaults(tmp_path):
    config = from_yaml(tmp_path, "model: {width: 64, layers: 2}", "model.width=32", "train.seed=7")
    assert (config.model.width, config.model.layers) == (32, 2)
    assert config.train.seed == 7
    assert config.model.dropout == Config().model.dropout


def test_the_last_of_two_overrides_counts():
    assert load_config(None, ["model.width=32", "model.width=48"]).model.width == 48


@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 1e-3), ("3", 3.0), ("0.5", 0.5), ("'2e-2'", 2e-2)]
)
def test_numbers_as_people_write_them(tmp_path, text, value):
    for config in (
        load_config(None, [f"train.learning_rate={text}"]),
        from_yaml(tmp_path, f"train: {{learning_rate: {text}}}"),
    ):
        assert config.train.learning_rate == value
        assert type(config.train.learning_rate) is float


def test_lists_null_and_single_numbers():
    config = load_config(None, ["decode.lm_weights=[5, 1e1]", "distill.epochs=null"])
    assert config.decode.lm_weights == (5.0, 10.0)
    assert config.distill.epochs is None
    assert load_config(None, ["decode.lm_weights=7"]).decode.lm_weights == (7.0,)
    assert load_config(None, ["distill.epochs=4"]).distill.epochs == 4


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("model.widht", "model.width"),
        ("train.learningrate", "train.learning_rate"),
        ("soft_target.temperature", "soft_targets.temperature"),
        ("distill.hard_wieght", "distill.hard_weight"),
        ("corpus.seeds", "corpus.seed"),
    ],
)
def test_an_unknown_setting_suggests_the_nearest(tmp_path, wrong, right):
    assert message_of(f"{wrong}=1") == f"unknown setting '{wrong}'; did you mean '{right}'?"
    group, key = wrong.split(".")
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump({group: {key: 1}}))
    name = wrong if group in dir(Config()) else group  # the first part that nobody knows
    assert message_of(path=path) == f"{path}: unknown setting '{name}'; did you mean '{right}'?"


def test_a_setting_like_none_that_is_known_suggests_nothing():
    assert message_of("zzz=1") == "unknown setting 'zzz'"
    assert message_of("model.width.more=1").startswith("unknown setting 'model.width.more'")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model.width=wide", "expected int, got 'wide'"),
        ("model.width=2.5", "expected int, got 2.5"),
        ("model.width=true", "expected int, got True"),
        ("model.width=null", "expected int, got None"),
        ("model.width=[1]", "expected int, got [1]"),
        ("model.dropout=yes", "expected float, got 'yes'"),
        ("train.bfloat16=on", "expected bool or null, got 'on'"),
        ("train.seed=1:30", "expected int, got '1:30'"),
        ("train.seed=0x_", "expected int, got '0x_'"),
        ("train.seed=1_000", "expected int, got '1_000'"),
        ("train.learning_rate=1:30.5", "expected float, got '1:30.5'"),
        ("train.learning_rate=\uff11", r"expected float, got '\uff11'"),
        ("model.width=1e3", "expected int, got 1000.0"),
        ("model.width=[" + "[7, 7], " * 9 + "]", "expected int, got [" + "[7, 7], " * 6 + "...]"),
        ("train.bfloat16=1", "expected bool or null, got 1"),
        ("distill.epochs=many", "expected int or null, got 'many'"),
        ("decode.lm_weights=[a]", "expected float, got 'a'"),
        ("corpus.name=[an4]", "expected str, got ['an4']"),
    ],
)
def test_a_value_of_the_wrong_type_names_the_setting(tmp_path, override, expected):
    name, _, value = override.partition("=")
    assert message_of(override) == f"setting '{name}': {expected}"
    group, key = name.split(".")
    path = tmp_path / "settings.yaml"
    path.write_text(f"{group}:\n  {key}: {value}\n", encoding="utf-8")
    assert message_of(path=path) == f"{path}: setting '{name}': {expected}"


@pytest.mark.parametrize(
    ("content", "width"),
    [
        (b"\xef\xbb\xbfmodel:\r\n  width: 8\r\n", 8),
        (b"%YAML 1.2\n---\nmodel: {width: 010}\n...\n", 10),
        (b"model: {<<: &small {width: 8, layers: 1}, layers: 2}", 8),
        (b"model:\n  <<: [{width: 8}, {width: 16}]", 8),
        ("# \u0395\u03bb\u03bb\u03ac\nmodel: {width: 8}".encode(), 8),
    ],
)
def test_what_files_may_have(tmp_path, content, width):
    path = tmp_path / "settings.yaml"
    path.write_bytes(content)
    assert load_config(path, []).model.width == width


@pytest.mark.parametrize(
    "value",
    [
        "a #2",
        "a: b",
        "[a",
        "010",
        "2001-99-99",
        "null ",
        "~a",
        "'a'",
        " a",
        "*a",
        "!!str a",
        "é\u202fü",
    ],
)
def test_a_path_on_the_command_line_is_taken_as_it_is(value):
    assert load_config(None, [f"lm.text={value}"]).lm.text == value


def test_null_on_the_command_line_is_no_path():
    assert load_config(None, ["lm.text=a", "lm.text=null"]).lm.text is None


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("~", "begins with ~"),
        ("~/a", "begins with ~"),
        ("a\nb", "has bytes that are no UTF-8 or"),
        ("\x1b[2J", "has bytes that are no UTF-8 or"),
        ("caf\udce9", "has bytes that are no UTF-8 or"),
    ],
)
def test_what_is_no_path(path, problem):
    assert f"it {problem}" in message_of(f"corpus.data_dir={path}")
    with pytest.raises(SystemExit), contextlib.redirect_stderr(io.StringIO()) as errors:
        main(["corpus", "--exp-dir", path])
    assert problem in errors.getvalue() and errors.getvalue()[:-1].isprintable()


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("lm.text=", "setting 'lm.text' has no value after the =; give one"),
        ("distill.epochs= ", "setting 'distill.epochs' has no value after the =; give one"),
        ("distill.epochs=#3", "setting 'distill.epochs': #3 is a comment in YAML; to mean text"),
        ("soft_targets.external_posteriors=a #2", "#2 is a comment in YAML; to mean text, put"),
        ("train.seed=\udcff", "setting 'train.seed': not valid YAML (it has the character U+DCFF)"),
        ("corpus.name=2001-99-99", "setting 'corpus.name': 2001-99-99 is a date in YAML"),
    ],
)
def test_an_override_is_never_silently_null_or_cut(override, problem):
    assert problem in message_of(override)


@pytest.mark.parametrize("empty", ["''", '""'])
def test_an_empty_path_is_refused(tmp_path, empty):
    with pytest.raises(UserError, match="^setting 'corpus.data_dir' is ''; it is empty; give a pa"):
        from_yaml(tmp_path, f"corpus: {{data_dir: {empty}}}")


YAML_TEXT = st.text(
    st.sampled_from("model.width:corpu{}[]-&*!|>%@`'\"#,?~ \n\t0123é\x85\ud800\x00")
)


@hypothesis.settings(max_examples=150)
@hypothesis.given(
    st.one_of(YAML_TEXT, st.text()), st.sampled_from(["", "model: ", "model:\n  width: "])
)
def test_any_text_is_settings_or_one_error(tmp_path_factory, text, before):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes((before + text).encode("utf-8", "surrogatepass"))
    for arguments in ((path, []), (None, [text]), (None, [f"train.decay={text}"])):
        try:
            assert isinstance(load_config(*arguments), Config)
        except UserError as error:
            assert str(error)


@pytest.mark.parametrize("override", ["model.width", "=3", "width 3"])
def test_an_override_needs_a_key_and_a_value(override):
    assert message_of(override) == f"setting '{override}': expected KEY.SUBKEY=VALUE"


def test_a_group_and_a_broken_value_on_the_command_line():
    assert "is a group; set one of its keys" in message_of("model=3")
    assert message_of("decode.lm_weights=[1").startswith("setting 'decode.lm_weights': not valid Y")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"model: [", "not valid YAML"),
        (b"model:\n\twidth: 3", "not valid YAML"),
        (b"\xff\xfe\x00", "UTF-16 text; save it as UTF-8"),
        (b"model:\n  width: \xe9", ":2: not UTF-8 text"),
        (b"a: 1\n---\nb: 2", ":2: not valid YAML (but found another document)"),
        (b"# " + b"x" * (1 << 18), "larger than 262,144 bytes"),
        (b"model:\n  width: 8 \x1b[2J", ":2: not valid YAML (it has the character U+001B)"),
        (b"model:\n  width: 8\0", ":2: not valid YAML (it has the character U+0000)"),
        (b'"\\e[2Jmod\\nel": 1', ":1: text has the character U+001B"),
        (b'corpus: {data_dir: "a\\0b"}', ":1: corpus.data_dir: text has the character U+0000"),
        (b"model:\n  width: 8\n  layers: 1\n  width: 16", ":4: model.width is given twice"),
        (b"model: {width: 8}\ntrain:\nmodel:\n", ":3: model is given twice"),
        (b"model:\n  ? [1]\n  : 2", ":2: a key of model is no name"),
        (b"corpus:\n  data_dir: 2001-99-99", ":2: corpus.data_dir: 2001-99-99 is a date in YAML"),
        (b"model:\n  width: " + b"[" * 3000, ":2: values are nested more than 20 deep"),
        (b"{a: " * 3000, ":1: values are nested more than 20 deep"),
        (b"train: {seed: " + b"9" * 5000 + b"}", "train.seed: a number of 5000 characters is too"),
        (b"model: !!python/tuple [1]", ":1: the tag tag:yaml.org,2002:python/tuple is not"),
        (b"model: &a [*a]", ":1: model has too many values"),
        (
            b"a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
            b"c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]",
            ": d has too many values",
        ),
        (b"model: {<<: 3}", ":1: << merges mappings alone"),
        ("mod\u0435l: {width: 8}".encode(), r"unknown setting 'mod\u0435l'; did you mean 'model."),
        (b"- 1\n- 2", "the file must be a mapping of settings"),
        (b"model: 3", "model must be a mapping of settings"),
        (b"3: 4", "unknown setting '3'"),
    ],
)
def test_a_malformed_file_is_named(tmp_path, content, expected):
    path = tmp_path / "settings.yaml"
    path.write_bytes(content)
    message = message_of(path=path)
    assert message.startswith(f"{path}:") and expected in message


def test_a_missing_file_is_named(tmp_path):
    assert message_of(path=tmp_path / "no.yaml").startswith(f"{tmp_path / 'no.yaml'}: cannot be")
    assert message_of(path=tmp_path).startswith(f"{tmp_path}: cannot be read")


KALDI = ["align.method=kaldi", "align.pdf_ali=a"]
PIECES = ["align.method=flat", "lang.units=pieces"]
OUT_OF_RANGE = [
    ("corpus.test_share", "0 1 -0.1 1.5 .nan"),
    ("corpus.test_speakers", "0 -1"),
    ("corpus.dev_share", "0 1 -0.1 1.5 .nan"),
    ("corpus.dev_speakers", "0 -1"),
    ("corpus.folds", "1 0 -2"),
    ("corpus.fold", "-1 1"),
    ("corpus.train_parts", "[] ../x [train-clean-5,/etc] .. a/b a\\\\b"),
    ("corpus.dev_parts", ". .hidden ''"),
    ("corpus.test_parts", "[test-clean,..]"),
    ("corpus.untranscribed_parts", "train/clean"),
    ("corpus.untranscribed_share", "-0.1 1 1.5 .nan"),
    ("corpus.seed", "-1"),
    ("corpus.demo_language", "xx english ''"),
    ("corpus.demo_train_voices", "0 17"),
    ("corpus.demo_dev_voices", "0 5"),
    ("corpus.demo_test_voices", "0 7"),
    ("corpus.demo_train_sentences", "0 501"),
    ("corpus.demo_eval_sentences", "0 501"),
    ("features.sample_rate", "0 -16000"),
    ("features.mel_bins", "0 12"),
    ("features.low_hz", "-1"),
    ("features.high_hz", ".nan 8001 20 -7980 -9000"),
    ("features.vtlp_warps", "[] [0.9] [1,1] [1,1.00000001] [1,0] [1,3] [1,.nan]"),
    ("features.tempos", "[] [0.9] [1,1] [1,0.4] [1,2.1] [1,.nan]"),
    ("features.transfer_vtlp_warps", "[1] [0.9,0.9] [0] [3] [.nan]"),
    ("features.mp3_kbits", "0 7 321 .nan"),
    ("features.normalise", "speakers ''"),
    ("lang.units", "words ''"),
    ("lang.case", "lower ''"),
    ("lang.pieces", "1 -5"),
    ("lang.piece_model", "word ''"),
    ("align.method", "sphinx ''"),
    ("align.pdfs", "0 -1"),
    ("align.unknown_words", "guess ''"),
    ("align.max_failed", "-0.1 1 .nan"),
    ("align.iterations", "0 -1 1001"),
    ("align.gaussians", "0 3 128"),
    ("align.flat_start_hours", "0 -1 .nan .inf"),
    ("align.outlier_threshold", "0 -1 .nan .inf"),
    ("senones.leaves", "0 -5"),
    ("senones.min_frames", "0"),
    ("frames.shard_frames", "0"),
    ("frames.speaker_cepstra", "-1"),
    ("frames.speaker_cepstra", "41"),
    ("model.layers", "0 -1 101"),
    ("model.width", "0 -512"),
    ("model.dropout", "1 -0.1 1.5 .nan"),
    ("model.input_dropout", "-0.1 1 nan"),
    ("model.left_frames", "-1 1001"),
    ("model.right_frames", "-1 1001"),
    ("train.members", "0 1001"),
    ("train.epochs", "0 -1"),
    ("train.batch_frames", "0"),
    ("train.learning_rate", "0 -1 .nan .inf"),
    ("train.warmup_steps", "-1"),
    ("train.max_grad_norm", "0 -1 .nan"),
    ("train.weight_decay", "-1e-3 .inf"),
    ("train.max_norm", "0 -1 nan"),
    ("train.time_mask", "-1 1001"),
    ("train.frequency_mask", "-1 1001"),
    ("train.average", "-0.1 1 .nan"),
    ("train.schedule", "linear none"),
    ("train.tracker", "tensorbord none"),
    ("train.decay_below", ".nan"),
    ("train.decay", "0 1.1 .nan"),
    ("train.stop_rate", "-0.1 1.1 .nan"),
    ("train.max_logits_mb", "0 -1 .inf"),
    ("train.memory_gb", "0 -1 .inf .nan"),
    ("train.streams", "0 -1"),
    ("train.checkpoint_steps", "0"),
    ("train.log_steps", "0 -1"),
    ("soft_targets.external_posteriors", "['']"),
    ("soft_targets.temperature", "0 -2 .nan .inf"),
    ("soft_targets.mean", "median ''"),
    ("soft_targets.weights", "[] [0,0] [1,-1] [.nan] [1,.inf]"),
    ("soft_targets.encoding", "topk ''"),
    ("soft_targets.kept_classes", "0 -1 65536"),
    ("soft_targets.kept_mass", "0 1.1 -1 .nan"),
    ("soft_targets.bits", "4 32"),
    ("soft_targets.seed", "-1"),
    ("soft_targets.memory_gb", "0 -1 .inf .nan"),
    ("distill.models", "0"),
    ("distill.transfer_set", "none '' train"),
    ("distill.hard_weight", "-0.5 .nan"),
    ("distill.layers", "0 101"),
    ("distill.width", "0"),
    ("distill.epochs", "0"),
    ("distill.dropout", "1"),
    ("distill.hard_baseline_dropout", "1"),
    ("distill.learning_rate", "0"),
    ("distill.schedule", "linear"),
    ("distill.decay_below", "nan"),
    ("distill.decay", "0"),
    ("lm.order", "0"),
    ("lm.vocabulary", "0 -5"),
    ("lm.min_counts", "[] [2,2,2] [1,2,1] [0,1,1]"),
    ("lm.prune", "0 -1e-8 1 .nan"),
    ("decode.beam", "0 -1"),
    ("decode.lattice_beam", "0"),
    ("decode.max_active", "0"),
    ("decode.acoustic_scale", "0 -0.1"),
    ("decode.lm_weights", "[] [0] [5,-1] [.nan]"),
    ("decode.insertion_penalties", "[] [.inf]"),
    ("decode.jobs", "-1"),
    ("corpus.name", "an5 ''"),
]


def test_the_demo_has_as_many_voices_as_are_allowed():
    for split, voices in demo.VOICES.items():
        allowed = SETTINGS[f"corpus.demo_{split}_voices"].allowed
        assert allowed.allows(len(voices)) and not allowed.allows(len(voices) + 1)


@pytest.mark.parametrize(("name", "values"), OUT_OF_RANGE)
def test_a_value_out_of_range_names_setting_and_range(tmp_path, name, values):
    group, key = name.split(".")
    for value in values.split():
        message = message_of(f"{name}={value}")
        assert message.startswith(f"setting '{name}' is ") and "; it must " in message
        with pytest.raises(UserError, match=f"setting '{name}' is .*; it must "):
            from_yaml(tmp_path, f"{group}: {{{key}: {value}}}")


ANY_VALUES = [-1e31, -1, 0, 0.5, 1, 1e9, "", "xx", [], ["xx"], [-1.0, 0.0], [2, 1], [""]]


@pytest.mark.parametrize("name", [name for name, s in SETTINGS.items() if s.allowed])
def test_every_range_refuses_something(name):
    def refuses(value):
        with contextlib.suppress(UserError):
            yaml_dataclasses.replace_value(Config(), name, value, ())
            try:
                load_config(None, [f"{name}={json.dumps(value)}"])
            except UserError as error:
                return str(error).startswith(f"setting '{name}' is ") and "it must" in str(error)
        return False

    assert any(map(refuses, ANY_VALUES))


NUMBERS = [name for name, s in SETTINGS.items() if {int, float} & {s.type, *get_args(s.type)}]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [".nan", ".inf", "1e300", str(10**40), "[.nan]", "[1e300]"])
def test_no_setting_takes_what_is_no_number_or_too_large_a_one(name, value):
    with pytest.raises(UserError, match=f"^setting '{name}'"):
        load_config(None, [f"{name}={value}"])


TOGETHER = [
    (["align.method=dnn"], "'align.model' is null and 'align.method' is dnn"),
    (["align.model=exp/x"], "'align.model' is exp/x and 'align.method' is pocketsphinx"),
    (["align.method=kaldi"], "'align.pdf_ali' is null and 'align.method' is kaldi"),
    (["align.pdf_ali=a"], "'align.pdf_ali' is a and 'align.method' is pocketsphinx"),
    (["align.pdf_post=a"], "'align.pdf_post' is a and 'align.method' is pocketsphinx"),
    ([*KALDI, "align.pdf_post=b"], "'align.pdf_post' is b; it must be null with align.pdf_ali"),
    (["features.sample_rate=8000"], "'features.sample_rate' is 8000; pocketsphinx aligns 16000 Hz"),
    (["corpus.name=kaldi_feats"], "'align.method' is pocketsphinx; it must be kaldi with"),
    (
        [*KALDI, "corpus.name=kaldi_feats", "features.vtlp_warps=[1, 1.1]"],
        "'features.vtlp_warps' is [1.0, 1.1]; it must be [1.0] with",
    ),
    (
        [*KALDI, "corpus.name=kaldi_feats", "features.transfer_vtlp_warps=[1.1]"],
        "'features.transfer_vtlp_warps' is [1.1]; it must be [] with",
    ),
    (
        [*KALDI, "corpus.name=kaldi_feats", "features.tempos=[1, 1.1]"],
        "'features.tempos' is [1.0, 1.1]; it must be [1.0] with corpus.name=kaldi_feats",
    ),
    (
        ["soft_targets.external_posteriors=[a]", "features.tempos=[0.9, 1]"],
        "'features.tempos' is [0.9, 1.0]; it must be [1.0] with soft_targets.external_posteriors",
    ),
    (
        ["train.time_mask=27"],
        "'train.time_mask' is 27; it must be at most 26, the size of a window",
    ),
    (
        ["train.time_mask=20", "train.member_models=[{}, {left_frames: 9}]"],
        "'train.time_mask' is 20; it must be at most 15, the size of a window",
    ),
    (
        ["train.time_mask=20", "distill.shapes={small: {left_frames: 9}}"],
        "'train.time_mask' is 20; it must be at most 15, the size of a window",
    ),
    (
        ["train.frequency_mask=41"],
        "'train.frequency_mask' is 41; it must be at most 40, the size of a window",
    ),
    (
        [*KALDI, "corpus.name=kaldi_feats", "align.snip_edges=false"],
        "'align.snip_edges' is False; it must be true with",
    ),
    (
        ["features.vtlp_warps=[1, 1.1]", "features.transfer_vtlp_warps=[0.9, 1.1]"],
        "'features.transfer_vtlp_warps' has 1.1, and so has features.vtlp_warps",
    ),
    (
        ["features.high_hz=500", "features.mel_bins=13", "features.vtlp_warps=[1, 2]"],
        "'features.vtlp_warps' has 2; the band from 20 to 500 Hz is too narrow",
    ),
    (
        ["align.method=flat", "features.sample_rate=96000", "features.mp3_kbits=64"],
        "'features.mp3_kbits' is 64.0; it must be null with features.sample_rate=96000, which MP3",
    ),
    (
        ["align.method=flat", "features.sample_rate=44100", "features.mp3_kbits=24"],
        "'features.mp3_kbits' is 24.0; it must be from 32 to 320 with features.sample_rate=44100",
    ),
    (
        ["features.mp3_kbits=161"],
        "'features.mp3_kbits' is 161.0; it must be from 8 to 160 with features.sample_rate=16000",
    ),
    (["features.mel_bins=300"], "'features.mel_bins' is 300; filters from 20 to 7800 Hz are then"),
    (
        ["align.method=flat", "features.sample_rate=8000", "features.high_hz=4100"],
        "'features.high_hz' is 4100; it must lie above features.low_hz (20) and at or below half "
        "the sample rate (4000)",
    ),
    (["train.streams=9", "train.batch_frames=8"], "'train.streams' is 9; it must be at most train"),
    (
        ["soft_targets.weights=[1, 2]", "train.members=3"],
        "'soft_targets.weights' has 2 numbers; it must have one for each of the 3 members (train",
    ),
    (
        ["soft_targets.encoding=sampled", "soft_targets.kept_classes=256"],
        "'soft_targets.kept_classes' is 256; it must be at most 255",
    ),
    (["corpus.folds=7", "corpus.fold=7"], "'corpus.fold' is 7; it must be less than corpus.folds"),
    (["corpus.folds=7", "corpus.test_speakers=3"], "'corpus.test_speakers' is 3; it must be null"),
    (
        ["corpus.untranscribed_parts=train-clean-5"],
        "'corpus.untranscribed_parts' names train-clean-5, and so does corpus.train_parts; name it",
    ),
    (["lang.case=turkic"], "'lang.case' is turkic; it must be upper with lang.units=phones"),
    (["lang.positions=false"], "'lang.positions' is false; it must be true with lang.units=phones"),
    (["corpus.demo_language=es"], "'corpus.demo_language' is es, which has no lexicon; give lang"),
    (
        ["lang.units=graphemes"],
        "'align.method' is pocketsphinx, which knows English phones alone; give align.method=flat "
        "with lang.units=graphemes",
    ),
    ([*PIECES, "align.lexicon=a.dict"], "'align.lexicon' is a.dict; it must be null with"),
    ([*PIECES, "lm.arpa=x.arpa"], "'lm.arpa' is x.arpa, a model of words; give text, lm.text,"),
    ([*PIECES, "lm.vocabulary=9"], "'lm.vocabulary' is 9; it must be null with lang.units=pieces"),
    (["lm.arpa=x", "lm.prune=1e-8"], "'lm.prune' is 1e-08; it must be null with lm.arpa"),
    (["lm.arpa=x", "lm.text=y"], "'lm.text' is y; it must be null with lm.arpa"),
    (["lm.arpa=x", "lm.vocabulary=9"], "'lm.vocabulary' is 9; it must be null with lm.arpa"),
    (["lm.min_counts=[1,1]"], "'lm.min_counts' has 2 numbers; it must have one for each of the 3"),
]


@pytest.mark.parametrize(("overrides", "message"), TOGETHER, ids=[" ".join(o) for o, _ in TOGETHER])
def test_settings_that_are_wrong_together_are_refused(overrides, message):
    assert message_of(*overrides).startswith(f"setting {message}")


@pytest.mark.parametrize(
    "overrides",
    [
        ["align.method=dnn", "align.model=exp/x"],
        [*KALDI, "corpus.name=kaldi_feats", "features.mel_bins=300"],
        [*KALDI, "corpus.name=kaldi_feats", "train.frequency_mask=80"],
        [*KALDI, "features.tempos=[0.9, 1, 1.1]"],
        ["train.time_mask=26", "train.frequency_mask=40", "train.average=0.999"],
        ["align.method=flat", "features.sample_rate=8000", "features.high_hz=4000"],
        ["features.high_hz=5600", "features.vtlp_warps=[0.9, 1, 1.1]"],
        ["soft_targets.weights=[1, 2]", "train.members=2"],
        ["soft_targets.encoding=sampled", "soft_targets.kept_classes=256", "soft_targets.bits=16"],
        ["corpus.folds=7", "corpus.fold=6", "corpus.dev_parts=dev-clean"],
        ["lang.units=graphemes", "align.method=flat", "lang.case=turkic", "lm.arpa=x"],
        [*PIECES, "lang.positions=false", "lm.text=x"],
        ["model.dropout=0", "train.decay=1", "train.members=1000", "align.max_failed=0"],
        ["features.high_hz=8000", "distill.hard_weight=0", "soft_targets.temperature=0.5"],
    ],
    ids=" ".join,
)
def test_settings_that_fit_together_are_permitted(overrides):
    load_config(None, overrides)


def in_range(name: str) -> st.SearchStrategy:
    """Values of a setting that are allowed alone."""
    setting = SETTINGS[name]
    text = {"corpus.name": ["demo", "an4", "librispeech", "kaldi_dir", "kaldi_feats"]}
    parts = [[], ["dev-clean"], ["train-clean-5"], ["dev-clean", "test-clean"]]
    values = [
        *choices(name), *text.get(name, ["x"]), *parts, None, True, False,
        *(0, 1, 2, 3, 5, 8, 13, 20, 40, 80, 128, 255, 256, 1000, 8000, 16000, 44100),
        *(0.02, 0.1, 0.5, 0.9, 1.1, 3700.0, 5600.0, -200.0, -3000.0),
        *([1], [1, 0.5], [0.9, 1, 1.1], [2], [1, 1, 2], [1, 2, 3]),
    ]  # fmt: skip
    fitting = []
    for value in values:
        try:
            config = yaml_dataclasses.replace_value(Config(), name, value, ())
            check_values({name: all_settings(config)[name]})
        except UserError:
            continue
        fitting.append(value)
    assert fitting and setting
    return st.sampled_from(fitting)


@st.composite
def pairs(draw) -> list[str]:
    names = draw(st.lists(st.sampled_from(list(SETTINGS)), min_size=2, max_size=2, unique=True))
    return [f"{name}={json.dumps(draw(in_range(name)))}" for name in names]


SENTENCES = [list("abcab"), list("bca"), list("cab")]


@hypothesis.settings(max_examples=300)
@hypothesis.given(pairs())
def test_two_settings_within_their_ranges_work_or_are_refused(tmp_path_factory, overrides):
    """What depends on settings alone can be made from whatever is not refused."""
    try:
        config = load_config(None, overrides)
    except UserError as error:
        assert str(error).startswith("setting '")
        return
    features, train, soft = config.features, config.train, config.soft_targets
    if config.corpus.name != "kaldi_feats":
        noise = np.random.default_rng(0).normal(0, 0.1, features.sample_rate // 10)
        for frames in log_mels(noise.astype(np.float32), features, features.vtlp_warps):
            assert np.isfinite(frames).all() and frames.std(0).min() > 0
        log_mels(noise.astype(np.float32), features, features.transfer_vtlp_warps)
    models = [config.model, *shapes(config).values(), *member_models(config)]
    for shape in (*models, control_settings(config, 2.5)[0]):
        with torch.device("meta"):
            build_network(shape, features.mel_bins, 5)
    assert rate_of_step(State(rate=train.learning_rate), train, 10) > 0
    assert share_of_process(0, 1, train.streams)
    assert encoding_of(config) and SearchSettings.of(config.decode)
    Mean(soft.temperature, soft.mean, soft.weights)
    if config.lm.arpa is None:
        lm, path = config.lm, tmp_path_factory.getbasetemp() / "lm.arpa"
        train_lm(SENTENCES, {"a", "b", "c"}, path, lm.order, lm.min_counts, lm.prune)


def test_all_settings_fill_a_file_that_is_read_back_the_same(tmp_path):
    config = load_config(
        None,
        ["model.width=77", "decode.lm_weights=[3,4.5]", "distill.epochs=9", "corpus.data_dir=x y"],
    )
    nested: dict = {}
    for name, value in all_settings(config).items():
        group, key = name.split(".")
        nested.setdefault(group, {})[key] = list(value) if isinstance(value, tuple) else value
    assert from_yaml(tmp_path, yaml.safe_dump(nested)) == config
    overrides = [
        f"{name}={v if SETTINGS[name].path and v else json.dumps(v)}"
        for name, v in all_settings(config).items()
    ]
    assert load_config(None, overrides) == config


def test_every_setting_has_a_meaning_and_belongs_to_stages_that_there_are():
    groups = dataclasses.fields(Config)
    assert len(SETTINGS) == sum(len(dataclasses.fields(g.default_factory)) for g in groups)
    for name, setting in SETTINGS.items():
        assert setting.meaning.endswith("."), name
        assert set(setting.stages) <= set(STAGES), name
        assert not (setting.path and setting.stages), name


def test_a_stage_depends_on_the_settings_of_its_groups_and_no_others():
    found = {name: set(stage_settings(Config(), name)) for name in STAGES}
    assert found["report"] == set()
    assert {"frames.shard_frames", "frames.speaker_cepstra", "features.normalise"} == found[
        "frames"
    ]
    own = {"senones.leaves", "senones.min_frames", "senones.trees"}
    assert own | {"features.normalise"} == found["senones"]
    assert "align.unknown_words" in found["corpus"] & found["align"]
    assert "align.max_failed" not in shaping_settings(Config())
    paths = load_config(None, ["corpus.data_dir=/x", "lm.text=/y", "decode.jobs=3"])
    assert shaping_settings(paths) == shaping_settings(Config())


def test_the_page_of_settings_is_what_the_command_prints(capsys):
    assert main(["settings", "--markdown"]) == 0
    assert (REPOSITORY / "docs/settings.md").read_text() == capsys.readouterr().out


def test_settings_are_printed_one_a_line(capsys):
    assert main(["settings"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("=")[0] for line in lines] == list(SETTINGS)
    assert "model.width=512  The number of units of a hidden layer.  [1 to 1000000]" in lines
