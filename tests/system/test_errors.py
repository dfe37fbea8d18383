"""Whatever an error says, it is one short line without control characters."""

import hypothesis
import hypothesis.strategies as st
import pytest

from acoustic_kd.cli import exit_status
from acoustic_kd.system.errors import MAX_LINE, UserError, printable


def raises(error):
    def action():
        raise error

    return action


@hypothesis.settings(max_examples=50, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(st.text() | st.text(st.characters(max_codepoint=160)))
def test_an_error_is_one_line_of_a_terminal(capsys, text):
    assert exit_status("acoustic-kd corpus", raises(UserError(text))) == 2
    line = capsys.readouterr().err
    assert line.startswith("acoustic-kd corpus: error: ") and line.endswith("\n")
    assert len(line.splitlines()) == 1 and line.count("\n") == 1
    assert not any(
        ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000 for c in line[:-1]
    )


def test_a_long_line_keeps_its_beginning_and_its_end(capsys):
    exit_status("acoustic-kd corpus", raises(UserError(f"{'x' * 10**6}; give a shorter one")))
    line = capsys.readouterr().err.rstrip("\n")
    assert len(line) == MAX_LINE and "…" in line
    assert line.startswith("acoustic-kd corpus: error: xx") and line.endswith(
        "; give a shorter one"
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31m\nb\tc", r"a\x1b[31m\nb\tc"),
        ("\u202egp.exe", r"\u202egp.exe"),
        ("caf\udce9", r"caf\udce9"),
        ("Ελλάδα 日本\u3000語 می\u200cخواهم", "Ελλάδα 日本\u3000語 می\u200cخواهم"),
    ],
)
def test_what_is_printed_of_a_name(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), "not enough memory; give"),
        (MemoryError("Unable to allocate 9 GiB"), "not enough memory (Unable to allocate 9 GiB)"),
        (
            RuntimeError("alloc.cpp:1 . DefaultCPUAllocator: can't allocate memory: 4 B\nstack"),
            "not enough memory (can't allocate memory: 4 B); give",
        ),
        (RuntimeError("CUDA out of memory. Tried 2 GiB"), "not enough memory (CUDA out"),
    ],
)  # fmt: skip
def test_too_little_memory_is_one_line(capsys, error, expected):
    assert exit_status("acoustic-kd train", raises(error)) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"acoustic-kd train: error: {expected}") and printed.count("\n") == 1


def test_other_errors_keep_their_traceback():
    with pytest.raises(RuntimeError, match="a bug"):
        exit_status("acoustic-kd train", raises(RuntimeError("a bug")))
