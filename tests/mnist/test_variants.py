"""The rows of the experiment: what a settings file may ask for, and which nets follow from it."""

from dataclasses import replace
from pathlib import Path

import pytest
from digits import ROWS

from acoustic_kd.mnist.variants import Teacher, Variant, read_rows, runs_of, teacher_of
from acoustic_kd.system.errors import UserError

RECIPE = Path(__file__).parents[2] / "recipes" / "conf" / "mnist.yaml"


@pytest.fixture
def settings(tmp_path):
    """settings(text) → a file of it."""

    def write(text: str) -> Path:
        path = tmp_path / "rows.yaml"
        path.write_text(text)
        return path

    return write


def refusal(path: Path, full: bool = True) -> str:
    with pytest.raises(UserError) as caught:
        read_rows(path, full)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message.removeprefix(f"{path}: ")


# --- what is read -------------------------------------------------------------------------------


def test_the_recipe_has_the_seven_experiments_of_the_paper():
    rows = read_rows(RECIPE, full=True)
    assert {row.experiment for row in rows.values()} == set(range(1, 8))
    assert rows["cumbersome"].jitter == 2 and rows["cumbersome"].max_norm == 2.0
    assert {row.paper for row in rows.values()} == {67, 146, 74, None, 206, 4730}
    grid = [row for row in rows.values() if row.experiment == 4]
    assert {row.width for row in grid} == {800, 300, 100, 30}
    assert {row.temperatures for row in grid} == {(1, 2, 2.5, 3, 4, 5, 8, 10, 14, 20)}
    assert 3 not in rows["no-threes"].digits and rows["no-threes"].correct == (3,)
    assert rows["sevens-eights"].digits == rows["sevens-eights"].correct == (7, 8)
    for row in rows.values():
        assert row.train.schedule == "cosine"
        assert (row.model.left_frames, row.model.right_frames) == (0, 0)


def test_the_quick_recipe_is_some_of_the_rows_shortened():
    full, quick = read_rows(RECIPE, full=True), read_rows(RECIPE, full=False)
    assert list(quick) == ["cumbersome", "hard", "distilled"]
    for name, row in quick.items():
        assert row.seeds <= full[name].seeds and row.epochs < full[name].epochs
        # How long it trains, and what goes with that.
        length = ("seeds", "epochs", "dropout", "learning_rate")
        assert replace(row, **{key: getattr(full[name], key) for key in length}) == full[name]


def test_quick_rows_take_the_settings_that_quick_does_not_change(settings):
    path = settings("rows: {a: {width: 9, epochs: 5}, b: {}, c: {}}\nquick: {a: {epochs: 1}, c: }")
    assert read_rows(path, full=False) == {"a": Variant(width=9, epochs=1), "c": Variant()}
    assert read_rows(path, full=True) == {
        "a": Variant(width=9, epochs=5),
        "b": Variant(),
        "c": Variant(),
    }


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("widht: 3", "unknown setting 'rows.hard.widht'; did you mean 'rows.hard.width'?"),
        ("temperature: 3", "did you mean 'rows.hard.temperatures'?"),
        ("width: wide", "setting 'rows.hard.width': expected int, got 'wide'"),
        ("width: 8.5", "setting 'rows.hard.width': expected int, got 8.5"),
        ("width: 0", "setting 'rows.hard.width' is 0; it must be 1 or more"),
        ("layers: 0", "setting 'rows.hard.layers' is 0"),
        ("dropout: 2", "setting 'rows.hard.dropout' is 2.0; it must be at least 0 and less"),
        ("input_dropout: -0.1", "setting 'rows.hard.input_dropout' is -0.1"),
        ("epochs: 0", "setting 'rows.hard.epochs' is 0"),
        ("batch_frames: 0", "setting 'rows.hard.batch_frames' is 0"),
        ("learning_rate: .nan", "setting 'rows.hard.learning_rate' is nan"),
        ("max_norm: 0", "setting 'rows.hard.max_norm' is 0.0; it must be greater than 0"),
        ("paper: many", "setting 'rows.hard.paper': expected float or null, got 'many'"),
        ("seeds: 0", "row 'hard': seeds must be 1 or more"),
        ("mean: median", "row 'hard': mean is 'median'; it must be arithmetic or geometric"),
        ("digits: [11]", "row 'hard': digits and correct must be among 0 … 9"),
        ("digits: []", "row 'hard': digits and correct must be among 0 … 9"),
        ("correct: [-1]", "row 'hard': digits and correct must be among 0 … 9"),
        ("digits: [three]", "setting 'rows.hard.digits': expected int, got 'three'"),
        ("temperatures: [0]", "row 'hard': temperatures must be greater than 0"),
        ("temperatures: [2, .nan]", "row 'hard': temperatures must be greater than 0"),
        ("temperatures: [.inf]", "row 'hard': temperatures must be greater than 0"),
        ("temperatures: []", "row 'hard': temperatures must be greater than 0"),
        ("hard_weight: -1", "row 'hard': hard_weight must be 0 or more"),
        ("hard_weight: .nan", "row 'hard': hard_weight must be 0 or more"),
        ("jitter: -1", "row 'hard': hard_weight must be 0 or more, jitter 0 to 10 pixels"),
        ("jitter: 11", "jitter 0 to 10 pixels"),
        ("teacher: nobody", "row 'hard': teacher 'nobody' is no row of this run"),
        ("teacher: student", "row 'hard': teacher 'student' is itself distilled"),
        ("teacher: hard", "row 'hard': teacher 'hard' is itself distilled"),
        ("{teacher: big, members: 3}", "row 'hard': members must be 1 to 2, the seeds of its t"),
        ("{teacher: big, members: 0}", "row 'hard': members must be 1 to 2, the seeds of its t"),
    ],
)
def test_a_wrong_row_is_refused_in_one_line_that_names_it(settings, row, expected):
    row = row if row.startswith("{") else f"{{{row}}}"
    rows = f"rows: {{big: {{seeds: 2}}, student: {{teacher: big}}, hard: {row}}}\nquick: {{}}\n"
    assert expected in refusal(settings(rows))


@pytest.mark.parametrize(
    ("quick", "expected"),
    [
        ("soft: {}", "quick.soft is no row; rows are big, hard"),
        ("hard: {widht: 3}", "unknown setting 'quick.hard.widht'; did you mean 'quick.hard.width'"),
        ("hard: {epochs: 0}", "setting 'quick.hard.epochs' is 0"),
        ("hard: {teacher: big}", "row 'hard': teacher 'big' is no row of this run"),
        ("{big: {seeds: 1}, hard: {teacher: big, members: 2}}", "members must be 1 to 1"),
    ],
)
def test_wrong_quick_rows_are_refused_and_do_not_matter_to_the_full_ones(settings, quick, expected):
    quick = quick if quick.startswith("{") else f"{{{quick}}}"
    path = settings(f"rows: {{big: {{seeds: 2}}, hard: {{}}}}\nquick: {quick}\n")
    assert expected in refusal(path, full=False)
    assert set(read_rows(path, full=True)) == {"big", "hard"}


def test_a_wrong_row_is_refused_even_where_quick_does_not_use_it(settings):
    path = settings("rows: {a: {}, b: {widht: 3}}\nquick: {a: {}}\n")
    assert "unknown setting 'rows.b.widht'" in refusal(path, full=False)


SHAPE = "expected the mappings 'rows' and 'quick' and nothing else"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", SHAPE),
        ("rows: {a: {}}", SHAPE),
        ("rows: {a: {}}\nquick: [a]", "quick must be a mapping of rows"),
        ("rows: [a]\nquick: {}", "rows must be a mapping of rows"),
        ("rows: {a: {}}\nquick: {}\nslow: {}", SHAPE),
        ("rows: {a: 5}\nquick: {}", "rows.a must be a mapping of settings"),
        ("rows: {a: [}", "not valid YAML"),
    ],
)
@pytest.mark.parametrize("full", [False, True])
def test_a_file_of_another_shape_is_refused(settings, text, expected, full):
    assert expected in refusal(settings(text), full)


@pytest.mark.parametrize("text", ["- a\n- b", "rows", "5"])
def test_a_file_that_is_no_mapping_is_refused(settings, text):
    assert SHAPE in refusal(settings(text))


@pytest.mark.parametrize("changes", ["5", "[1]", "fast"])
def test_changes_that_are_no_mapping_are_refused(settings, changes):
    path = settings(f"rows: {{a: {{}}}}\nquick: {{a: {changes}}}\n")
    assert "quick.a" in refusal(path, full=False)


@pytest.mark.parametrize("name", ["30", "../x", "a/b", "A", "''"])
def test_a_row_whose_name_is_no_name_is_refused(settings, name):
    for full in (True, False):
        path = settings(f"rows: {{{name}: {{}}}}\nquick: {{soft: {{}}}}\n")
        assert "a row's name is of lower-case letters, digits and hyphens" in refusal(
            path, full=full
        )


def test_all_classes_cannot_be_corrected_nor_no_row_trained(settings):
    path = settings("rows: {a: {correct: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]}}\nquick: {}\n")
    assert "row 'a': correct must leave a class as it is" in refusal(path)
    path = settings("rows: {a: {}}\nquick: {}\n")
    assert "there are no quick rows" in refusal(path, full=False)


@pytest.mark.parametrize("temperatures", ["[2, 2.0]", "[2.0000001, 2.0000002]"])
def test_equal_temperatures_never_train_two_nets_in_one_place(settings, temperatures):
    row = f"{{teacher: a, temperatures: {temperatures}}}"
    path = settings(f"rows: {{a: {{}}, b: {row}}}\nquick: {{}}\n")
    try:
        names = [run.name for run in runs_of(read_rows(path, full=True))]
    except UserError as error:
        assert "row 'b'" in str(error)
    else:
        assert len(set(names)) == len(names)


def test_a_missing_file_is_named(tmp_path):
    assert "cannot be read (No such file or directory)" in refusal(tmp_path / "none.yaml")
    assert "cannot be read" in refusal(tmp_path)


# --- which nets ---------------------------------------------------------------------------------


@pytest.mark.parametrize("full", [False, True])
def test_every_net_has_a_place_of_its_own(full):
    rows = read_rows(RECIPE, full)
    runs = list(runs_of(rows))
    assert len({run.name for run in runs}) == len(set(runs)) == len(runs)
    soft = {name: row.teacher is not None for name, row in rows.items()}
    assert len(runs) == sum(
        row.seeds * (len(row.temperatures) if soft[name] else 1) for name, row in rows.items()
    )
    for run in runs:
        assert run.settings == rows[run.row]
        assert (run.temperature is not None) == soft[run.row]


def test_nets_are_named_by_row_temperature_and_seed(settings):
    runs = list(runs_of(read_rows(settings(ROWS), full=True)))
    assert [run.name for run in runs if run.row in ("teacher", "distilled")] == [
        *("teacher/01", "teacher/02"),
        *("distilled/T2/01", "distilled/T2/02", "distilled/T2/03"),
        *("distilled/T5.5/01", "distilled/T5.5/02", "distilled/T5.5/03"),
    ]


def teachers(rows, name):
    return [teacher_of(run, rows) for run in runs_of(rows) if run.row == name]


def test_net_n_learns_from_teacher_n_in_turn():
    rows = {"big": Variant(seeds=2), "small": Variant(seeds=5, teacher="big", mean="geometric")}
    assert teachers(rows, "big") == [None, None]
    assert [teacher.seeds for teacher in teachers(rows, "small")] == [(1,), (2,), (1,), (2,), (1,)]
    assert {teacher.mean for teacher in teachers(rows, "small")} == {"arithmetic"}
    assert teachers(rows, "small")[1].name == "big-02"


def test_several_members_are_averaged_for_every_net():
    rows = {"big": Variant(seeds=4)} | {
        mean: Variant(seeds=2, teacher="big", members=3, mean=mean)
        for mean in ("arithmetic", "geometric")
    }
    for mean in ("arithmetic", "geometric"):
        assert teachers(rows, mean) == [Teacher("big", (1, 2, 3), mean)] * 2
        assert teachers(rows, mean)[0].name == f"big-01+02+03-{mean}"
