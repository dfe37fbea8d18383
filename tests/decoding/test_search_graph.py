"""Graphs mapped from disk: the same records as in arrays, and the order of epsilon arcs."""

import numpy as np
import pytest
from composition import make_arcs
from hypothesis import given
from hypothesis import strategies as st

from acoustic_kd.decoding.graph.fst import FstArrays, map_fst, write_fst
from acoustic_kd.decoding.search_graph import epsilon_ranks
from acoustic_kd.system.errors import UserError

STATES = 8
ARCS = st.tuples(
    st.integers(0, STATES - 1),
    st.integers(0, 2),
    st.integers(0, 3),
    st.integers(0, 9).map(float),
    st.integers(0, STATES - 1),
)


def write(rows, path):
    """A graph file of (source, ilabel, olabel, cost, nextstate) a row."""
    source, arcs = make_arcs(rows)
    final = np.where(np.arange(STATES) % 3, np.inf, 0.5).astype(np.float32)
    write_fst(FstArrays(1, final, source, arcs), path)
    return map_fst(path)


def longest(state, rows):
    """The longest run of epsilon arcs into a state, one after the other."""
    before = [source for source, label, _, _, target in rows if label == 0 and target == state]
    return max((1 + longest(source, rows) for source in before), default=0)


@given(rows=st.lists(ARCS, max_size=25))
def test_records_are_the_arcs_and_ranks_are_the_longest_runs(tmp_path_factory, rows):
    rows = [row for row in rows if row[1] > 0 or row[0] < row[4]]
    fst = write(rows, tmp_path_factory.mktemp("graph") / "fst")
    state = fst.states_at(np.arange(STATES))
    assert fst.start == 1
    np.testing.assert_array_equal(np.isfinite(state["final"]), np.arange(STATES) % 3 == 0)
    for number in range(STATES):
        own = sorted(row[1:] for row in rows if row[0] == number)
        first, count = int(state["first"][number]), int(state["arcs"][number])
        found = fst.arcs_at(np.arange(first, first + count)).tolist()
        assert sorted(found) == own
        assert [arc[0] == 0 for arc in found] == [n < state["ieps"][number] for n in range(count)]
    assert epsilon_ranks(fst).tolist() == [longest(number, rows) for number in range(STATES)]


@pytest.mark.parametrize("cycle", [[3], [3, 5], [6, 2, 4]])
def test_a_cycle_of_epsilon_arcs_is_refused(tmp_path, cycle):
    rows = [(0, 0, 0, 0.0, cycle[0])]
    rows += [(a, 0, 1, 1.0, b) for a, b in zip(cycle, cycle[1:] + cycle[:1], strict=True)]
    with pytest.raises(UserError, match="cycle of epsilon arcs"):
        epsilon_ranks(write(rows, tmp_path / "fst"))


def test_what_is_mapped_cannot_be_changed(tmp_path):
    fst = write([(0, 1, 0, 1.0, 1)], tmp_path / "fst")
    with pytest.raises(ValueError, match="read-only"):
        fst.arcs[0] = 0


def test_no_number_of_the_file_is_believed_blindly(tmp_path):
    """Any byte of header and states may be damaged, and of arcs what the search goes by."""
    path = tmp_path / "HCLG.fst"
    write([(0, 1, 1, 1, 0.5), (1, 2, 0, 0, 0.0), (1, 0, 2, 1, 0.25)], path)
    whole = path.read_bytes()
    for place in range(len(whole)):
        for bit in (0, 7):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            try:
                fst = map_fst(path, senones=2, words=2)
            except UserError as error:
                assert str(path) in str(error)
            else:
                epsilon_ranks(fst)
    for content in (b"", whole[:10], whole[:-1], b"no graph at all"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"HCLG\.fst: damaged or not a ConstFst"):
            map_fst(path)
    with pytest.raises(UserError, match="cannot be read"):
        map_fst(tmp_path / "none")
