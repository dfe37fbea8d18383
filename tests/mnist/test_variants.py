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


IN_VARIANT = "variants: {big: {seeds: 2}, student: {teacher: big}, hard: {%s}}\nquick: {}\n"
REFUSED_SETTINGS = [
    ("widht: 3", "unknown setting 'variants.hard.widht'; did you mean 'variants.hard.width'"),
    ("digits: [three]", "setting 'variants.hard.digits': expected int, got 'three'"),
    *(
        (f"{name}: {value}", f"setting 'variants.hard.{name}' is ")
        for name, value in (
            *(("layers", 0), ("width", 0), ("dropout", 2), ("input_dropout", -0.1)),
            *(("epochs", 0), ("batch_frames", 0), ("learning_rate", ".nan"), ("max_norm", 0)),
        )
    ),
    *((f"seeds: {n}", "variant 'hard': seeds must be 1 to 1000") for n in (0, 10**9)),
    ("mean: median", "variant 'hard': mean is 'median'; it must be arithmetic or"),
    *((f"digits: {digits}", "digits and correct must be among 0 … 9") for digits in ("[11]", "[]")),
    ("correct: [-1]", "digits and correct must be among 0 … 9"),
    ("correct: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]", "correct must leave out a class"),
    *(
        (f"temperatures: {temperatures}", "temperatures must be from 0.001 to 1000000")
        for temperatures in ("[0]", "[2, .nan]", "[.inf]", "[]", "[1e-300]")
    ),
    ("temperatures: [2.0000001, 2.0000002]", "temperatures must differ, in six digits"),
    *(
        (f"hard_weight: {weight}", "hard_weight must be 0 to 1000000")
        for weight in ("-1", ".nan", 1e300)
    ),
    ("paper: .inf", "paper must be a number of errors of 10,000 images"),
    *((f"jitter: {pixels}", "jitter 0 to 10 pixels") for pixels in (-1, 11)),
    ("teacher: nobody", "teacher 'nobody' is no variant of this run"),
    *((f"teacher: {name}", f"'{name}' is itself distilled") for name in ("student", "hard")),
    *((f"teacher: big, members: {n}", "members must be 1 to 2, the seeds of") for n in (0, 3)),
]
SHAPE = "expected the mappings 'variants' and 'quick' and nothing else"
NAME = "give the variant a name of lower-case letters, digits and hyphens"
REFUSED_FILES = [
    *((text, SHAPE) for text in ("", "- a\n- b", "5", "variants: {a: {}}")),
    ("variants: {a: {}}\nquick: {}\nslow: {}", SHAPE),
    ("variants: {a: {}}\nquick: [a]", "quick must be a mapping of variants"),
    ("variants: [a]\nquick: {}", "variants must be a mapping of variants"),
    ("variants: {a: 5}\nquick: {}", "variants.a must be a mapping of settings"),
    ("variants: {a: {}}\nquick: {a: 5}", "quick.a must be a mapping of settings"),
    ("variants: {}\nquick: {}", "no variants; give at least one"),
    *(
        (f"variants: {{{name}: {{}}}}\nquick: {{}}", NAME)
        for name in ("a_b", "../x", "a/b", "A", "''")
    ),
]


@pytest.mark.parametrize(
    ("text", "message"),
    [*((IN_VARIANT % setting, message) for setting, message in REFUSED_SETTINGS), *REFUSED_FILES],
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


# --- nets ---------------------------------------------------------------------------------------


def test_nets_are_named_by_variant_temperature_and_seed(settings):
    variants = read_variants(settings(VARIANTS), full=True)
    runs = [run for run in runs_of(variants) if run.variant in ("teacher", "distilled")]
    assert [run.name for run in runs] == [
        *("teacher/01", "teacher/02"),
        *("distilled/T2/01", "distilled/T2/02", "distilled/T2/03"),
        *("distilled/T5.5/01", "distilled/T5.5/02", "distilled/T5.5/03"),
    ]
    assert [run.temperature for run in runs] == [None] * 2 + [2] * 3 + [5.5] * 3
    assert all(run.settings == variants[run.variant] for run in runs)


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_net_n_learns_from_teacher_n_in_turn_or_from_a_mean_of_several(mean):
    variants = {
        "big": Variant(seeds=3),
        "single": Variant(seeds=5, teacher="big", mean=mean),
        "several": Variant(seeds=2, teacher="big", members=2, mean=mean),
    }
    teachers = {name: [] for name in variants}
    for run in runs_of(variants):
        teachers[run.variant].append(teacher_of(run, variants))
    assert teachers["big"] == 3 * [None]
    assert teachers["single"] == [Teacher("big", (n,), "arithmetic") for n in (1, 2, 3, 1, 2)]
    assert teachers["single"][1].name == "big-02"
    assert teachers["several"] == 2 * [Teacher("big", (1, 2), mean)]
    assert teachers["several"][0].name == f"big-01+02-{mean}"
