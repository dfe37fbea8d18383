"""Charts: everything lies on the picture, marks are where the values are."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acoustic_kd.reports import charts
from acoustic_kd.reports.charts import MARKS, WIDTH, Row, Series

SVG = "{http://www.w3.org/2000/svg}"
WORDS = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc"]))
VALUES = st.floats(-1e6, 1e6, allow_nan=False).map(lambda value: round(value, 4))


def marks(root):
    """x and y of every mark."""
    paths = [path.get("transform") for path in root.iter(f"{SVG}path")]
    return [tuple(map(float, re.findall(r"-?[\d.]+", place))) for place in paths]


def parse(svg):
    """The picture; all of it must be on it."""
    root = ET.fromstring(svg)  # noqa: S314
    _, _, width, height = map(float, root.get("viewBox").split())
    assert width == WIDTH and root.get("role") == "img" and root.get("aria-label")
    for x, y in marks(root):
        assert 0 <= x <= width and 0 <= y <= height
    for name in ("line", "rect", "text"):
        for found in root.iter(f"{SVG}{name}"):
            for key in ("x", "x1", "x2"):
                assert 0 <= float(found.get(key, 0)) <= width
            for key in ("y", "y1", "y2"):
                assert 0 <= float(found.get(key, 0)) <= height
    return root


@settings(max_examples=40)
@given(
    st.lists(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=30), min_size=1, max_size=8)
)
def test_lines_of_any_values_lie_on_the_picture(points):
    series = [Series(f"<{n}> & more", found, n) for n, found in enumerate(points)]
    root = parse(charts.lines("a < b", "x", "y", series))
    labels = [label.text for label in root.iter(f"{SVG}text")]
    assert all(one.label in labels for one in series)
    assert len(list(root.iter(f"{SVG}polyline"))) == len(series)


@settings(max_examples=40)
@given(st.lists(st.tuples(VALUES, st.lists(VALUES, max_size=4)), min_size=1, max_size=9))
def test_rows_of_any_values_lie_on_the_picture(found):
    entries = [
        Row(f"row {n}", [(n, p) for p in points], value, (value - 1, value + 2), n)
        for n, (value, points) in enumerate(found)
    ]
    for beside in (0, 50):
        root = parse(charts.rows("rows", "%", entries, [("one", 0)], 2, beside))
        labels = [label.text for label in root.iter(f"{SVG}text")]
        assert all(entry.label in labels for entry in entries)
        assert f"{found[0][0]:.2f}" in labels


def test_marks_stand_in_the_order_of_the_values():
    root = parse(charts.rows("rows", "%", [Row("a", [(0, 1.0), (1, 3.0), (2, 2.0)])]))
    first, second, third = marks(root)
    assert first[0] < third[0] < second[0]
    points = [(1, 5.0), (2, 9.0), (3, 7.0)]
    *found, _legend = marks(parse(charts.lines("l", "x", "y", [Series("a", points)])))
    (_, lowest), (_, highest), (_, middle) = sorted(found)
    assert highest < middle < lowest  # y goes down


def test_series_are_told_apart_without_colour():
    series = [Series(f"s{n}", [(0, n), (1, n + 1)], n) for n in range(len(MARKS))]
    root = parse(charts.lines("l", "x", "y", series))
    dashes = [curve.get("stroke-dasharray") for curve in root.iter(f"{SVG}polyline")]
    shapes = {path.get("d") for path in root.iter(f"{SVG}path")}
    assert len(set(dashes)) == len(shapes) == len(MARKS)


def test_probabilities_are_written_beside_their_bars():
    probabilities = {"B_1.2": [0.9, 0.3], "P_1.7": [2e-5, 0.1]}
    root = parse(charts.tempered("t", (1.0, 5.0), probabilities, "B_1.2"))
    texts = [label.text for label in root.iter(f"{SVG}text")]
    assert texts == ["T = 1", "T = 5", "B_1.2", "0.900", "0.300", "P_1.7", "2e-05", "0.100"]
    wide = [float(bar.get("width")) for bar in root.iter(f"{SVG}rect")]
    assert wide[0] == wide[1] and wide[3] == pytest.approx(wide[1] / 3, abs=0.1)


@given(WORDS, WORDS)
def test_text_and_attributes_are_escaped(words, label):
    picture = charts.document(10, 20, [charts.text(1, 2, words), "<g/>"], aria_label=label)
    root = ET.fromstring(picture)  # noqa: S314
    assert root.get("aria-label") == label and root.get("viewBox") == "0 0 10 20"
    assert [child.tag.rpartition("}")[2] for child in root] == ["text", "g"]
    assert (root[0].text or "") == words


def test_numbers_are_short_and_what_is_none_is_left_out():
    assert charts.element("a", b_c=1.0, class_="x", d=None, e=2) == '<a b-c="1" class="x" e="2"/>'
    assert charts.line(0.04, np.float64(1.25), 3, 4) == '<line x1="0" y1="1.2" x2="3" y2="4"/>'
    curve = '<polyline points="1.0,2.1" fill="none" stroke="red"/>'
    assert charts.polyline([(1, 2.06)], stroke="red") == curve


@pytest.mark.parametrize(
    ("span", "expected"), [(1.0, 0.5), (4, 1), (0.08, 0.02), (900, 500), (20, 5), (0.4, 0.1)]
)
def test_ticks_are_at_round_distances(span, expected):
    assert charts.step(span) == pytest.approx(expected)
