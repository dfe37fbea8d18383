"""Settings: what is read from YAML and the command line, and how each mistake is named."""

import dataclasses

import pytest
import yaml

from acoustic_kd.corpora import demo as demo
from acoustic_kd.settings import RANGES, Config, all_settings, load_config
from acoustic_kd.system.errors import UserError


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
        ("model.dropout=yes", "expected float, got True"),
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
    path.write_text(f"{group}:\n  {key}: {value}\n")
    assert message_of(path=path) == f"{path}: setting '{name}': {expected}"


@pytest.mark.parametrize("override", ["model.width", "=3", "width 3"])
def test_an_override_needs_a_key_and_a_value(override):
    assert message_of(override) == f"setting '{override}': expected KEY.SUBKEY=VALUE"


def test_a_group_and_a_broken_value_on_the_command_line():
    assert "is a group; set one of its keys" in message_of("model=3")
    assert message_of("decode.lm_weights=[1").endswith("the value is not valid YAML")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"model: [", "not valid YAML"),
        (b"model:\n\twidth: 3", "not valid YAML"),
        (b"\xff\xfe\x00", "not valid YAML"),
        (b"- 1\n- 2", "the file must be a mapping of settings"),
        (b"model: 3", "model must be a mapping of settings"),
        (b"3: 4", "unknown setting '3'"),
    ],
)
def test_a_malformed_file_is_named(tmp_path, content, expected):
    path = tmp_path / "settings.yaml"
    path.write_bytes(content)
    message = message_of(path=path)
    assert message.startswith(f"{path}: ") and expected in message


def test_a_missing_file_is_named(tmp_path):
    assert message_of(path=tmp_path / "no.yaml").startswith(f"{tmp_path / 'no.yaml'}: cannot be")
    assert message_of(path=tmp_path).startswith(f"{tmp_path}: cannot be read")


OUT_OF_RANGE = [
    ("corpus.test_share", "0 1 -0.1 1.5 .nan"),
    ("corpus.test_speakers", "0 -1"),
    ("corpus.dev_share", "0 1 -0.1 1.5 .nan"),
    ("corpus.dev_speakers", "0 -1"),
    ("corpus.folds", "1 0 -2"),
    ("corpus.fold", "-1 1"),
    ("corpus.train_parts", "[] train-clean [train-clean-5,dev]"),
    ("corpus.dev_parts", "dev ''"),
    ("corpus.test_parts", "[test-clean,test]"),
    ("corpus.untranscribed_parts", "train-clean-50"),
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
    ("features.vtlp_warps", "[] [0.9] [1,1] [1,0] [1,3] [1,.nan]"),
    ("features.transfer_vtlp_warps", "[1] [0.9,0.9] [0] [3] [.nan]"),
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
    ("model.layers", "0 -1"),
    ("model.width", "0 -512"),
    ("model.dropout", "1 -0.1 1.5 .nan"),
    ("model.input_dropout", "-0.1 1 nan"),
    ("model.left_frames", "-1"),
    ("model.right_frames", "-1"),
    ("train.members", "0 1001"),
    ("train.epochs", "0 -1"),
    ("train.batch_frames", "0"),
    ("train.learning_rate", "0 -1 .nan .inf"),
    ("train.weight_decay", "-1e-3 .inf"),
    ("train.max_norm", "0 -1 nan"),
    ("train.schedule", "linear none"),
    ("train.tracker", "tensorbord none"),
    ("train.decay_below", ".nan"),
    ("train.decay", "0 1.1 .nan"),
    ("train.stop_rate", "-0.1 1.1 .nan"),
    ("train.max_logits_mb", "0 -1 .inf"),
    ("train.memory_gb", "0 -1 .inf .nan"),
    ("train.streams", "0 -1"),
    ("train.checkpoint_steps", "0"),
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
    ("distill.layers", "0"),
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
]


@pytest.mark.parametrize("override", ["align.method=dnn", "align.model=exp/first"])
def test_a_model_is_given_where_one_aligns_and_only_there(override):
    assert message_of(override).startswith("setting 'align.model' is ")
    load_config(None, ["align.method=dnn", "align.model=exp/first"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["align.method=kaldi"], "'align.pdf_ali' is null and 'align.method' is kaldi"),
        (["align.pdf_ali=a.ark"], "'align.pdf_ali' is a.ark and 'align.method' is pocketsphinx"),
        (["align.pdf_post=a.ark"], "'align.pdf_post' is a.ark and 'align.method' is pocketsphinx"),
        (
            ["align.pdf_post=b.ark", "align.pdf_ali=a.ark"],
            "'align.pdf_post' is b.ark; it must be null",
        ),
        (["corpus.name=kaldi_feats"], "'align.method' is pocketsphinx; it must be kaldi where"),
        (
            ["corpus.name=kaldi_feats", "features.vtlp_warps=[1, 1.1]"],
            "'features.vtlp_warps' is [1.0, 1.1]; it must be [1.0]",
        ),
        (
            ["features.vtlp_warps=[1, 1.1]", "features.transfer_vtlp_warps=[0.9, 1.1]"],
            "'features.transfer_vtlp_warps' has 1.1, and so has features.vtlp_warps",
        ),
        (
            ["corpus.name=kaldi_feats", "align.snip_edges=false"],
            "'align.snip_edges' is False; it must be true",
        ),
    ],
)
def test_settings_for_what_comes_from_kaldi_fit_together(overrides, message):
    given = ["align.method=kaldi", "align.pdf_ali=a.ark"] if len(overrides) > 1 else []
    assert message_of(*given, *overrides).startswith(f"setting {message}")
    load_config(None, ["corpus.name=kaldi_feats", "align.method=kaldi", "align.pdf_ali=a.ark"])


def test_every_range_is_tested():
    assert [name for name, _ in OUT_OF_RANGE] == list(RANGES)
    assert set(RANGES) <= set(all_settings(Config()))


@pytest.mark.parametrize(("name", "values"), OUT_OF_RANGE)
def test_a_value_out_of_range_names_setting_and_range(tmp_path, name, values):
    group, key = name.split(".")
    for value in values.split():
        message = message_of(f"{name}={value}")
        assert message.startswith(f"setting '{name}' is ") and "; it must " in message
        with pytest.raises(UserError, match=f"setting '{name}' is .*; it must "):
            from_yaml(tmp_path, f"{group}: {{{key}: {value}}}")


def test_the_demo_has_as_many_voices_and_sentences_as_may_be_asked_for():
    for split in demo.VOICES:
        fits, _ = RANGES[f"corpus.demo_{split}_voices"]
        assert fits(len(demo.VOICES[split])) and not fits(len(demo.VOICES[split]) + 1)
    for kind in ("train", "eval"):
        fits, _ = RANGES[f"corpus.demo_{kind}_sentences"]
        assert fits(demo.MOST_SENTENCES) and not fits(demo.MOST_SENTENCES + 1)


def test_the_edges_of_ranges_are_permitted():
    load_config(
        None,
        [
            "model.dropout=0", "model.dropout=0.99", "train.weight_decay=0", "train.decay=1",
            "train.members=1", "train.members=1000", "distill.hard_weight=0", "align.max_failed=0",
            "features.high_hz=8000", "features.high_hz=0", "features.vtlp_warps=[1, 0.9]",
            "soft_targets.temperature=0.5", "soft_targets.kept_classes=1", "decode.lm_weights=[1]",
        ],
    )  # fmt: skip


def test_the_settings_of_soft_targets_fit_together():
    load_config(None, ["soft_targets.weights=[1, 2]", "train.members=2"])
    message = message_of("soft_targets.weights=[1, 2]", "train.members=3")
    assert message.startswith("setting 'soft_targets.weights' has 2 numbers; it must have one for")
    assert "the 3 members (train.members)" in message
    sampled = ["soft_targets.encoding=sampled", "soft_targets.kept_classes=256"]
    load_config(None, [*sampled, "soft_targets.bits=16"])
    assert "it must be 255 or less" in message_of(*sampled)


def test_the_settings_of_parts_and_folds_fit_together():
    load_config(None, ["corpus.folds=7", "corpus.fold=6", "corpus.dev_parts=dev-clean"])
    assert "is 7; it must be less than corpus.folds (7)" in message_of(
        "corpus.folds=7", "corpus.fold=7"
    )
    message = message_of("corpus.folds=7", "corpus.test_speakers=3")
    assert message.startswith("setting 'corpus.test_speakers' is 3; it must be null where")
    assert message_of("corpus.untranscribed_parts=train-clean-5") == (
        "setting 'corpus.untranscribed_parts' names train-clean-5, and so does corpus.train_parts; "
        "it must be named once"
    )


def test_the_settings_of_units_fit_together():
    aligned = ["align.method=dnn", "align.model=exp/first"]
    load_config(None, [*aligned, "lang.units=graphemes", "lang.case=turkic", "lm.arpa=x"])
    load_config(None, [*aligned, "lang.units=pieces", "lm.text=x"])
    assert message_of("lang.case=turkic") == (
        "setting 'lang.case' is turkic; it must be upper where lang.units is phones"
    )
    load_config(None, [*aligned, "lang.units=graphemes", "lang.positions=false"])
    assert message_of("lang.positions=false") == (
        "setting 'lang.positions' is false; it must be true where lang.units is phones"
    )
    assert message_of("lang.units=graphemes") == (
        "setting 'align.method' is pocketsphinx, which knows English phones alone; "
        "give align.method=flat where lang.units is graphemes"
    )
    pieces = [*aligned, "lang.units=pieces"]
    assert "'align.lexicon' is a.dict; it must be" in message_of(*pieces, "align.lexicon=a.dict")
    assert "'lm.arpa' is x.arpa, a model of words" in message_of(*pieces, "lm.arpa=x.arpa")
    assert "'lm.vocabulary' is 9; it must be null" in message_of(*pieces, "lm.vocabulary=9")


def test_half_the_sample_rate_bounds_the_filters():
    load_config(None, ["features.sample_rate=8000", "features.high_hz=4000"])
    message = message_of("features.sample_rate=8000", "features.high_hz=4100")
    assert "at or below half the sample rate (4000)" in message


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
        f"{name}={yaml.safe_dump(list(v) if isinstance(v, tuple) else v, default_flow_style=True)}"
        for name, v in all_settings(config).items()
    ]
    assert load_config(None, overrides) == config


def test_all_settings_are_flat_and_complete():
    settings = all_settings(Config())
    groups = dataclasses.fields(Config)
    assert len(settings) == sum(
        len(dataclasses.fields(getattr(Config(), group.name))) for group in groups
    )
    assert settings["model.width"] == Config().model.width
