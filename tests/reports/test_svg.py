"""SVG: whatever is written into it, it stays XML with that text in it."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoustic_kd.reports.charts import document, element, line, polyline, step, text

WORDS = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc"]))


@given(WORDS, WORDS)
def test_text_and_attributes_are_escaped(words, label):
    picture = document(10, 20, [text(1, 2, words), "<g/>"], aria_label=label)
    root = ET.fromstring(picture)  # noqa: S314
    assert root.get("aria-label") == label and root.get("viewBox") == "0 0 10 20"
    assert [child.tag.rpartition("}")[2] for child in root] == ["text", "g"]
    assert (root[0].text or "") == words


def test_numbers_are_short_and_what_is_none_is_left_out():
    assert element("a", b_c=1.0, class_="x", d=None, e=2) == '<a b-c="1" class="x" e="2"/>'
    assert line(0.04, np.float64(1.25), 3, 4) == '<line x1="0" y1="1.2" x2="3" y2="4"/>'
    assert (
        polyline([(1, 2.06)], stroke="red")
        == '<polyline points="1.0,2.1" fill="none" stroke="red"/>'
    )


@pytest.mark.parametrize(
    ("span", "expected"), [(1.0, 0.5), (4, 1), (0.08, 0.02), (900, 500), (20, 5), (0.4, 0.1)]
)
def test_ticks_are_at_round_distances(span, expected):
    assert step(span) == pytest.approx(expected)
