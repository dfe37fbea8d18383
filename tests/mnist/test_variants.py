"""The variants of the experiment: which settings are read, and which nets follow from them."""

from dataclasses import replace

import pytest
from digits import VARIANTS
from scripts import REPOSITORY

from acoustic_kd.mnist.variants import Teacher, Variant, read_variants, runs_of, teacher_of
from acoustic_kd.system.errors import UserError

RECIPE = REPOSITORY / "acoustic_kd" / "conf" / "mnist.yaml"


@pytest.fixture
def settings(tmp_path):
    """settings(text) → a file of it."""

    def write(text):
        path = tmp_path / "variants.yaml"
        path.write_text(text)
        return path

    return write


# --- settings -----------------------------------------------------------------------------------


def test_the_recipe_has_the_seven_experiments_of_the_paper():
    variants = read_variants(RECIPE, full=True)
    assert {variant.experiment for variant in variants.values()} == set(range(1, 8))
    assert variants["cumbersome"].jitter == 2 and variants["cumbersome"].max_norm == 2.0
    assert {variant.paper for variant in variants.values()} == {67, 146, 74, None, 206, 4730}
    grid = [variant for variant in variants.values() if variant.experiment == 4]
    assert {variant.width for variant in grid} == {800, 300, 100, 30}
    assert {variant.temperatures for variant in grid} == {(1, 2, 2.5, 3, 4, 5, 8, 10, 14, 20)}
    assert 3 not in variants["no-threes"].digits and variants["no-threes"].correct == (3,)
    assert variants["sevens-eights"].digits == variants["sevens-eights"].correct == (7, 8)
    for variant in variants.values():
        assert variant.train.schedule == "cosine"
        assert (variant.model.left_frames, variant.model.right_frames) == (0, 0)


def test_the_quick_recipe_is_some_of_the_variants_shortened():
    full, quick = read_variants(RECIPE, full=True), read_variants(RECIPE, full=False)
    assert list(quick) == ["cumbersome", "hard", "distilled"]
    for name, variant in quick.items():
        assert variant.seeds <= full[name].seeds and variant.epochs < full[name].epochs
        length = ("seeds", "epochs", "dropout", "learning_rate")  # and what depends on it
        assert replace(variant, **{key: getattr(full[name], key) for key in length}) == full[name]


def test_quick_variants_keep_the_settings_that_quick_does_not_change(settings):
    path = settings("variants: {a: {width: 9, epochs: 5}, b: {}}\nquick: {a: {epochs: 1}, b: }")
    assert read_variants(path, full=False) == {"a": Variant(width=9, epochs=1), "b": Variant()}
    full = {"a": Variant(width=9, epochs=5), "b": Variant()}
    assert read_variants(path, full=True) == full


SHAPE = "expected the mappings 'variants' and 'quick' and nothing else"
FIRST = "variants: {big: {seeds: 2}, student: {teacher: big}, hard: {"
NAME = "give the variant a name of lower-case letters, digits and hyphens"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *(
            (f"{FIRST}{setting}}}}}\nquick: {{}}\n", message)
            for setting, message in (
                ("widht: 3", "unknown setting 'variants.hard.widht'; did you mean 'variants.hard."),
                ("temperature: 3", "did you mean 'variants.hard.temperatures'?"),
                ("width: wide", "setting 'variants.hard.width': expected int, got 'wide'"),
                ("width: 8.5", "setting 'variants.hard.width': expected int, got 8.5"),
                ("width: 0", "setting 'variants.hard.width' is 0; it must be 1 to"),
                ("layers: 0", "setting 'variants.hard.layers' is 0"),
                ("dropout: 2", "setting 'variants.hard.dropout' is 2.0; it must be at least 0"),
                ("input_dropout: -0.1", "setting 'variants.hard.input_dropout' is -0.1"),
                ("epochs: 0", "setting 'variants.hard.epochs' is 0"),
                ("batch_frames: 0", "setting 'variants.hard.batch_frames' is 0"),
                ("learning_rate: .nan", "setting 'variants.hard.learning_rate' is nan"),
                ("max_norm: 0", "setting 'variants.hard.max_norm' is 0.0; it must be from"),
                ("paper: many", "setting 'variants.hard.paper': expected float or null, got"),
                ("digits: [three]", "setting 'variants.hard.digits': expected int, got 'three'"),
                ("seeds: 0", "variant 'hard': seeds must be 1 or more"),
                ("mean: median", "variant 'hard': mean is 'median'; it must be arithmetic or"),
                ("digits: [11]", "variant 'hard': digits and correct must be among 0 … 9"),
                ("digits: []", "variant 'hard': digits and correct must be among 0 … 9"),
                ("correct: [-1]", "variant 'hard': digits and correct must be among 0 … 9"),
                ("correct: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]", "'hard': correct must leave out a cl"),
                ("temperatures: [0]", "variant 'hard': temperatures must be greater than 0"),
                ("temperatures: [2, .nan]", "variant 'hard': temperatures must be greater than 0"),
                ("temperatures: [.inf]", "variant 'hard': temperatures must be greater than 0"),
                ("temperatures: []", "variant 'hard': temperatures must be greater than 0"),
                ("temperatures: [2, 2.0]", "variant 'hard': temperatures must differ"),
                ("temperatures: [2.0000001, 2.0000002]", "temperatures must differ, in six digits"),
                ("hard_weight: -1", "variant 'hard': hard_weight must be 0 or more"),
                ("hard_weight: .nan", "variant 'hard': hard_weight must be 0 or more"),
                ("jitter: -1", "jitter 0 to 10 pixels"),
                ("jitter: 11", "jitter 0 to 10 pixels"),
                ("teacher: nobody", "variant 'hard': teacher 'nobody' is no variant of this run"),
                ("teacher: student", "variant 'hard': teacher 'student' is itself distilled"),
                ("teacher: hard", "variant 'hard': teacher 'hard' is itself distilled"),
                ("teacher: big, members: 3", "'hard': members must be 1 to 2, the seeds of its t"),
                ("teacher: big, members: 0", "'hard': members must be 1 to 2, the seeds of its t"),
            )
        ),
        ("", SHAPE),
        ("- a\n- b", SHAPE),
        ("5", SHAPE),
        ("variants: {a: {}}", SHAPE),
        ("variants: {a: {}}\nquick: {}\nslow: {}", SHAPE),
        ("variants: {a: {}}\nquick: [a]", "quick must be a mapping of variants"),
        ("variants: [a]\nquick: {}", "variants must be a mapping of variants"),
        ("variants: {a: 5}\nquick: {}", "variants.a must be a mapping of settings"),
        ("variants: {a: {}}\nquick: {a: 5}", "quick.a must be a mapping of settings"),
        ("variants: {a: [}", "not valid YAML"),
        ("variants: {}\nquick: {}", "no variants; give at least one"),
        *(
            (f"variants: {{{name}: {{}}}}\nquick: {{}}", NAME)
            for name in ("30", "../x", "a/b", "A", "''")
        ),
    ],
)
def test_refusals(settings, text, message):
    path = settings(text)
    with pytest.raises(UserError) as caught:
        read_variants(path, full=True)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("quick", "message"),
    [
        ("soft: {}", "quick.soft: no such variant; give one of big, hard"),
        ("hard: {widht: 3}", "unknown setting 'quick.hard.widht'; did you mean 'quick.hard.width'"),
        ("hard: {epochs: 0}", "setting 'quick.hard.epochs' is 0"),
        ("hard: {teacher: big}", "variant 'hard': teacher 'big' is no variant of this run"),
        ("big: {seeds: 1}, hard: {teacher: big, members: 2}", "members must be 1 to 1"),
        ("", "no quick variants; give at least one"),
    ],
)
def test_refusals_of_quick_variants_do_not_touch_the_full_ones(settings, quick, message):
    path = settings(f"variants: {{big: {{seeds: 2}}, hard: {{}}}}\nquick: {{{quick}}}\n")
    with pytest.raises(UserError, match=message):
        read_variants(path, full=False)
    assert set(read_variants(path, full=True)) == {"big", "hard"}


def test_a_wrong_variant_is_refused_even_where_quick_does_not_use_it(settings):
    path = settings("variants: {a: {}, b: {widht: 3}}\nquick: {a: {}}\n")
    with pytest.raises(UserError, match=r"unknown setting 'variants\.b\.widht'"):
        read_variants(path, full=False)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(UserError, match=f"^{path}: cannot be read"):
            read_variants(path, full=True)


# --- nets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("full", [False, True])
def test_every_net_has_a_directory_of_its_own(full):
    variants = read_variants(RECIPE, full)
    runs = list(runs_of(variants))
    assert len({run.name for run in runs}) == len(set(runs)) == len(runs)
    soft = {name: variant.teacher is not None for name, variant in variants.items()}
    assert len(runs) == sum(
        variant.seeds * (len(variant.temperatures) if soft[name] else 1)
        for name, variant in variants.items()
    )
    for run in runs:
        assert run.settings == variants[run.variant]
        assert (run.temperature is not None) == soft[run.variant]


def test_nets_are_named_by_variant_temperature_and_seed(settings):
    runs = list(runs_of(read_variants(settings(VARIANTS), full=True)))
    assert [run.name for run in runs if run.variant in ("teacher", "distilled")] == [
        *("teacher/01", "teacher/02"),
        *("distilled/T2/01", "distilled/T2/02", "distilled/T2/03"),
        *("distilled/T5.5/01", "distilled/T5.5/02", "distilled/T5.5/03"),
    ]


def teachers(variants, name):
    return [teacher_of(run, variants) for run in runs_of(variants) if run.variant == name]


def test_net_n_learns_from_teacher_n_in_turn():
    small = Variant(seeds=5, teacher="big", mean="geometric")
    variants = {"big": Variant(seeds=2), "small": small}
    assert teachers(variants, "big") == [None, None]
    assert teachers(variants, "small") == [
        Teacher("big", (seed,), "arithmetic") for seed in (1, 2, 1, 2, 1)
    ]
    assert teachers(variants, "small")[1].name == "big-02"


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_several_members_are_averaged_for_every_net(mean):
    small = Variant(seeds=2, teacher="big", members=3, mean=mean)
    found = teachers({"big": Variant(seeds=4), "small": small}, "small")
    assert found == [Teacher("big", (1, 2, 3), mean)] * 2
    assert found[0].name == f"big-01+02+03-{mean}"
