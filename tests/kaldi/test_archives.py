"""Kaldi's archives, written by kaldi-native-io, and each kind of damage."""

import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acoustic_kd.kaldi.archives import Table
from acoustic_kd.kaldi.objects import ALIGNMENT, MATRIX, POSTERIOR, integer_bytes, write_objects
from acoustic_kd.system.errors import UserError

kaldi = pytest.importorskip("kaldi_native_io", reason="needs acoustic-kd[dev]")
RNG = np.random.default_rng(0)
FORMS = ["ark", "ark,t", "ark,scp", "gz", "gz,t"]


def written(folder, writer, objects, form, *more):
    """Write an archive; return what is given to read it."""
    path = folder / "a.ark"
    specifier = f"ark,scp:{path},{folder / 'a.scp'}" if form == "ark,scp" else f"ark:{path}"
    if form.endswith(",t"):
        specifier = specifier.replace("ark:", "ark,t:")
    with writer(specifier) as file:
        for name, value in objects.items():
            file.write(name, value, *more)
    if form.startswith("gz"):
        (folder / "a.gz").write_bytes(gzip.compress(path.read_bytes()))
        return str(folder / "a.gz")
    return str(folder / "a.scp") if form == "ark,scp" else str(path)


def read_all(given, kind):
    """All objects, read in reverse order."""
    table = Table(given, kind)
    return {name: table[name] for name in reversed(list(table))}


@pytest.mark.parametrize("form", FORMS)
def test_alignments(tmp_path, form):
    wanted = {"é-1": [5, 0, 2**31 - 1], "b": [], "c": list(range(1000))}
    found = read_all(written(tmp_path, kaldi.Int32VectorWriter, wanted, form), ALIGNMENT)
    assert {name: numbers.tolist() for name, numbers in found.items()} == wanted


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("writer", [kaldi.FloatMatrixWriter, kaldi.DoubleMatrixWriter])
def test_matrices(tmp_path, form, writer):
    dtype = np.float32 if writer is kaldi.FloatMatrixWriter else np.float64
    shapes = {"a": (3, 4), "b": (1, 1), "c": (200, 7), "d": (0, 0)}
    wanted = {name: RNG.normal(size=shape).astype(dtype) for name, shape in shapes.items()}
    for kind in (MATRIX, POSTERIOR):
        if kind is POSTERIOR:
            del wanted["d"]  # in text it is one frame of no class
        found = read_all(written(tmp_path, writer, wanted, form), kind)
        assert found.keys() == wanted.keys()
        for name, matrix in wanted.items():
            assert found[name].dtype == np.float32
            np.testing.assert_allclose(found[name], matrix, rtol=1e-4 if "t" in form else 1e-7)


@pytest.mark.parametrize("form", FORMS)
def test_sparse_posteriors(tmp_path, form):
    wanted = {"a": [[(1, 0.5), (7, 0.5)], [], [(3, 1.0)]], "b": [[(0, 0.25)]], "c": [[]] * 4}
    found = read_all(written(tmp_path, kaldi.PosteriorWriter, wanted, form), POSTERIOR)
    pairs = {
        name: [
            list(zip(post.classes[a:b].tolist(), post.weights[a:b].tolist(), strict=True))
            for a, b in zip(post.offsets, post.offsets[1:], strict=False)
        ]
        for name, post in found.items()
    }
    assert pairs == wanted


@pytest.mark.parametrize("form", ["ark", "ark,scp", "gz"])
@pytest.mark.parametrize("method", ["SpeechFeature", "TwoByteAuto", "OneByteAuto"])
def test_compressed_matrices(tmp_path, form, method):
    """As kaldi-native-io itself decompresses them."""
    how = getattr(kaldi.CompressionMethod, f"k{method}")
    wanted = {f"u{n}": RNG.normal(3, 5, (40 + n, 6)).astype(np.float32) for n in range(3)}
    given = written(tmp_path, kaldi.CompressedMatrixWriter, wanted, form, how)
    with kaldi.SequentialFloatMatrixReader(f"ark:{tmp_path / 'a.ark'}") as reader:
        expected = {name: np.array(matrix) for name, matrix in reader}
    for name, matrix in read_all(given, MATRIX).items():
        np.testing.assert_allclose(matrix, expected[name], rtol=1e-5, atol=1e-5)
        assert np.abs(matrix - wanted[name]).max() < 0.5


def test_rows_of_a_matrix(tmp_path):
    matrix = RNG.normal(size=(9, 3)).astype(np.float32)
    scp = written(tmp_path, kaldi.FloatMatrixWriter, {"a": matrix}, "ark,scp")
    line = (tmp_path / "a.scp").read_text().strip()
    # The last one is within Kaldi's tolerance.
    for rows in ("[2:4]", "[:]", "[:,:]", "[0:8]", "[0:8,:]", "[0:11]"):
        (tmp_path / "a.scp").write_text(f"{line}{rows}\n")
        expected = matrix[2:5] if rows == "[2:4]" else matrix
        np.testing.assert_array_equal(Table(scp, MATRIX)["a"], expected)
    for rows in ("[2:12]", "[9:11]"):
        (tmp_path / "a.scp").write_text(f"{line}{rows}\n")
        with pytest.raises(UserError, match=r"'a'\): has 9 frames, but its scp asks for rows to 1"):
            Table(scp, MATRIX)["a"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("zipped", [False, True])
def test_text_as_other_tools_write_it(tmp_path, end, zipped):
    """A byte order mark, space before an id, none after one, an empty line at the end."""
    content = end.join(["\ufeffa 1 2", " b", "c \t3", "", ""]).encode()
    (tmp_path / "a").write_bytes(gzip.compress(content) if zipped else content)
    found = read_all(str(tmp_path / "a"), ALIGNMENT)
    assert {name: n.tolist() for name, n in found.items()} == {"a": [1, 2], "b": [], "c": [3]}
    written(tmp_path, kaldi.Int32VectorWriter, {"a": [1, 2]}, "ark,scp")
    index = "\ufeff" + (tmp_path / "a.scp").read_text().strip() + end
    (tmp_path / "a.scp").write_bytes(index.encode())
    assert read_all(str(tmp_path / "a.scp"), ALIGNMENT)["a"].tolist() == [1, 2]


def test_several_archives_are_one_table(tmp_path):
    for number in (1, 2, 10):
        data = integer_bytes(np.arange(number))
        (tmp_path / f"pdf.{number}.gz").write_bytes(gzip.compress(f"u{number} ".encode() + data))
    table = Table(f"ark:{tmp_path}/pdf.*.gz", ALIGNMENT)
    assert {name: len(table[name]) for name in table} == {"u1": 1, "u2": 2, "u10": 10}
    (tmp_path / "pdf.3.gz").write_bytes(gzip.compress(b"u2 1 2\n"))
    with pytest.raises(UserError, match=r"pdf\.3\.gz: duplicate id 'u2'"):
        Table(f"{tmp_path}/pdf.*.gz", ALIGNMENT)


@settings(max_examples=25)
@given(st.dictionaries(st.text("abcé-_0", min_size=1), st.lists(st.integers(0, 2**31 - 1))))
def test_what_is_written_is_read_back(tmp_path_factory, wanted):
    path = tmp_path_factory.mktemp("ali") / "a.ark"
    objects = ((name, integer_bytes(np.array(them, np.int64))) for name, them in wanted.items())
    assert write_objects(path, objects) == len(wanted)
    with kaldi.SequentialInt32VectorReader(f"ark:{path}") as reader:
        assert {name: list(found) for name, found in reader} == wanted
    if wanted:
        found = read_all(str(path), ALIGNMENT)
        assert {name: numbers.tolist() for name, numbers in found.items()} == wanted


def test_a_relative_path_starts_at_the_working_directory_or_at_the_index(tmp_path, monkeypatch):
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp" / "a.ark").write_text("a 1 2\n")
    for entry, here in (("exp/a.ark:2", tmp_path), ("a.ark:2", "/")):
        (tmp_path / "exp" / "a.scp").write_text(f"a {entry}\n")
        monkeypatch.chdir(here)
        assert Table(f"scp:{tmp_path}/exp/a.scp", ALIGNMENT)["a"].tolist() == [1, 2]


BINARY = b"a \0B" + integer_bytes(np.arange(3))[2:]
HUGE = b"a \0BFM \4\xff\xff\xff\x7f\4\xff\xff\xff\x7f1234"
ENTRIES = ("", " a.ark:2[]", " a.ark:2[3:1]", " a.ark:2[0:1,0:3]")
TRUNCATED_GZIP = gzip.compress(b"a  [\n" + b" 1 2\n" * 999 + b" 1 2 ]\n", mtime=0)[:-30]


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        (ALIGNMENT, b"", ": holds no utterance"),
        (ALIGNMENT, BINARY[:-1], r" \(utterance 'a'\): 1 bytes are missing at the end"),
        (ALIGNMENT, BINARY[:9], r" \(utterance 'a'\): .* bytes are missing"),
        (ALIGNMENT, BINARY + BINARY[4:], "an utterance id is missing"),
        (ALIGNMENT, b"a 1 2\nb", "an utterance id is missing"),
        (ALIGNMENT, b"a 1 x\n", r"'a'\): not integers, one a frame"),
        (ALIGNMENT, b"a 1 99999999999\n", r"'a'\): not integers"),
        (ALIGNMENT, b"a \0BFM \4\1\0\0\0\4\1\0\0\0abcd", r"'a'\): not integers"),
        (ALIGNMENT, b"a 1\na 2\n", ": duplicate id 'a'; keep one of the two"),
        (MATRIX, BINARY, r"'a'\): not a matrix of floats"),
        (MATRIX, HUGE, r"'a'\): not a matrix"),
        (MATRIX, b"a  [\n 1 2\n 3 ]\n", r"'a'\): not a matrix of floats"),
        (MATRIX, b"a  [\n 1 2\n", r"'a'\): the closing \] is missing"),
        (MATRIX, b"a  [\n 1 2 ] 3\n", "text after the closing ]"),
        (MATRIX, b"a 1 2\n", r"'a'\): not a matrix in text"),
        (MATRIX, TRUNCATED_GZIP, "cannot be read"),
        (POSTERIOR, b"a [ 1 0.5 2 ]\n", "not posteriors: "),
        (POSTERIOR, b"a [ 1 0.5 ] [\n", "brackets do not match"),
        (POSTERIOR, b"a [ 1 [ 0.5 2 ] 1 ]\n", "not posteriors"),
        (POSTERIOR, b"a 1 2\n", "not posteriors"),
        (POSTERIOR, BINARY, r"'a'\): (not posteriors|.* bytes are missing)"),
    ],
)
def test_damage_is_named(tmp_path, kind, content, message):
    path = tmp_path / "a.ark"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"a.ark.*{message}"):
        dict(Table(str(path), kind))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a cat x.ark |", r"a\.scp:1: 'cat x\.ark \|' is a command"),
        *((f"a{end}", r"a\.scp:1: expected 'utterance-id path:offset'") for end in ENTRIES),
        ("a gone.ark:2", r"gone\.ark: no such file"),
        ("a a.ark:2\na a.ark:2", r"a\.scp:2: duplicate id 'a'"),
    ],
)
def test_a_wrong_line_of_an_index_is_named(tmp_path, line, message):
    (tmp_path / "a.ark").write_text("a 1 2\n")
    (tmp_path / "a.scp").write_text(f"{line}\n")
    with pytest.raises(UserError, match=message):
        Table(str(tmp_path / "a.scp"), ALIGNMENT)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("ark:gunzip -c a.gz |", "commands are not run"),
        ("| cat", "commands are not run"),
        ("ark:-", "commands are not run"),
        ("/nowhere/pdf.*.gz", r"pdf\.\*\.gz: no such file"),
    ],
)
def test_commands_and_missing_files_are_refused(given, message):
    with pytest.raises(UserError, match=message):
        Table(given, ALIGNMENT)
