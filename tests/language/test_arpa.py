"""ARPA files are written as Python would write them, line by line."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoustic_kd.language import arpa as arpa_write
from acoustic_kd.language.arpa import fixed_point, write_arpa

NUMBERS = st.floats(-99, 99).filter(lambda x: abs(x * 1e7 % 1 - 0.5) > 1e-3)  # not half way


@given(st.lists(NUMBERS, min_size=1, max_size=30))
def test_numbers(values):
    rows = fixed_point(np.array(values))
    for value, row in zip(values, rows, strict=True):
        expected = f"{value:.7f}"
        expected = "0.0000000" if expected == "-0.0000000" else expected
        assert row[row != 0].tobytes().decode() == expected


@pytest.mark.parametrize("lines", [1, 2, 1000])
def test_files(tmp_path, monkeypatch, lines):
    monkeypatch.setattr(arpa_write, "LINES_PER_BLOCK", lines)
    words = ["<s>", "</s>", "A", "NAÏVE"]
    ngrams = [np.arange(4)[:, None], np.array([[0, 3], [3, 2], [2, 1]]), np.empty((0, 3), int)]
    logprobs = [np.array([-99, -0.5, -1, -12.25]), np.array([-0.1, -0.2, -0.3]), np.empty(0)]
    backoffs = [np.array([0.5, 0, -10, -0.25]), np.array([0, -1e-9, 1.0])]
    write_arpa(tmp_path / "a", words, ngrams, logprobs, backoffs)
    assert (tmp_path / "a").read_text(encoding="utf-8") == (
        "\\data\\\nngram 1=4\nngram 2=3\nngram 3=0\n"
        "\n\\1-grams:\n-99.0000000\t<s>\t0.5000000\n-0.5000000\t</s>\t0.0000000\n"
        "-1.0000000\tA\t-10.0000000\n-12.2500000\tNAÏVE\t-0.2500000\n"
        "\n\\2-grams:\n-0.1000000\t<s> NAÏVE\t0.0000000\n-0.2000000\tNAÏVE A\t0.0000000\n"
        "-0.3000000\tA </s>\t1.0000000\n"
        "\n\\3-grams:\n\n\\end\\\n"
    )
