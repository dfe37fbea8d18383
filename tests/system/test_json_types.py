"""JSON in the types that are expected: what is allowed, and where what is not is."""

from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import jsonl_rows, read_json
from acoustic_kd.system.json_types import WrongType, reader


@dataclass(frozen=True)
class Point:
    x: float
    name: str | None = None


class Figures(TypedDict):
    points: list[Point]
    pair: tuple[int, int]


GOOD = {"points": [{"x": 1}, {"x": 0.5, "name": "a"}], "pair": [1, 2], "more": None}


def test_values_are_made():
    assert reader(Figures)(GOOD) == {
        "points": [Point(1), Point(0.5, "a")], "pair": (1, 2), "more": None,
    }  # fmt: skip
    assert reader(dict[str, tuple[str, ...]])({"a": ["b"]}) == {"a": ("b",)}
    assert reader(Literal[0, "x"])("x") == "x" and reader(Any)(GOOD) is GOOD


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (int, True, "must be an integer"),
        (int, 2**63, "must be an integer"),
        (int, 1.0, "must be an integer"),
        (float, float("nan"), "must be a finite number"),
        (float, float("-inf"), "must be a finite number"),
        (float, 10**400, "must be a finite number"),
        (float, "1", "must be a finite number"),
        (str | None, 3, "must be null"),
        (Literal[0, 1], True, "must be 0 or 1"),
        (list[int], {"a": 1}, "must be a list"),
        (list[int], [1, "x"], "'1' must be an integer"),
        (dict[str, list[str]], {"a": ["b", None]}, "'a.1' must be a text"),
        (Figures, GOOD | {"pair": [1]}, "'pair' must be a list of 2"),
        (Figures, GOOD | {"points": [{"x": 1}, {}]}, "'points.1.x' is missing"),
        (Figures, GOOD | {"points": [{"x": 1, "y": 2}]}, "'points.0.y' is unknown"),
        (Figures, {"points": []}, "'pair' is missing"),
        (Figures, [], "must be an object"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(kind, value, message):
    with pytest.raises(WrongType) as caught:
        reader(kind)(value)
    assert str(caught.value) == message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["points", "pair", "x", "name"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=20)
@given(JSON)
def test_any_value_is_read_or_refused(value):
    try:
        found = reader(Figures)(value)
    except WrongType:
        return
    assert all(isinstance(point, Point) for point in found["points"]) and len(found["pair"]) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 20_000, "not valid JSON (too many brackets)"),
        ('{"a": ' * 20_000, "not valid JSON (too many brackets)"),
        ("9" * 5000, "not valid JSON ("),
        ("1e999", "must be a finite number"),
        ("NaN", "must be a finite number"),
        ("\0", "not valid JSON ("),
        ("", "not valid JSON ("),
    ],
)
def test_the_file_is_named(tmp_path, text, message):
    path = tmp_path / "a.json"
    path.write_text(text)
    for read, where in ((read_json, path), (lambda *a: list(jsonl_rows(*a)), f"{path}:1")):
        if text or where == path:
            with pytest.raises(UserError) as caught:
                read(path, float)
            error = str(caught.value)
            assert error.startswith(f"{where}: {message}") and "\n" not in error
            assert error.endswith("delete the file and run the stage that writes it again")
