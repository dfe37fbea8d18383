"""HDF5 files: full disks while they are written, and what is refused when they are read."""

import resource
from pathlib import Path

import h5py
import numpy as np
import pytest
from forked import Program

from acoustic_kd.cli import exit_status
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.hdf5 import add_dataset, open_hdf5, write_hdf5

FORM = "test 1"
VALUES = np.arange(60_000, dtype=np.float32).reshape(-1, 3)


def write(path, values=VALUES):
    works = [lambda file, n=n: add_dataset(file, f"values-{n}", values) for n in range(3)]
    write_hdf5(path, FORM, [*works, lambda file: add_dataset(file, "ids", ["ü", "b"])])


def write_to_small_disks(folder):
    """The exit status is the number of things that went wrong."""
    path, wrong = folder / "new" / "file.h5", 0
    write(folder / "whole.h5")
    whole = (folder / "whole.h5").read_bytes()
    for size in (0, 1, 100, 4096, *(len(whole) * part // 8 for part in range(1, 8))):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        try:
            write(path)
            wrong += 1
        except OSError as error:
            wrong += (error.strerror, error.filename) != ("File too large", str(path))
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        wrong += any(path.parent.iterdir())
        write(path)
        wrong += path.read_bytes() != whole
        path.unlink()

    def full():
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
        try:
            write(path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)

    return wrong + (exit_status("program", full) != 2)


def test_a_full_disk_is_one_line_and_the_next_try_gives_the_same_bytes(tmp_path):
    status, errors = Program(tmp_path, tmp_path, function=write_to_small_disks).end()
    path = tmp_path / "new" / "file.h5"
    assert (status, errors) == (0, f"program: error: {path}: File too large\n")


def test_an_error_in_preparing_the_content_leaves_no_file(tmp_path):
    def works():
        yield lambda file: add_dataset(file, "values", VALUES)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_hdf5(tmp_path / "file.h5", FORM, works())
    assert not list(tmp_path.iterdir())


# --- reading ------------------------------------------------------------------------------------


def read(path):
    with open_hdf5(path, FORM) as file:
        return file.dataset("values", "f", 2)[:], file.texts("ids")


def external_data(file, folder):
    (folder / "secret").write_bytes(bytes(36))
    file.create_dataset("values", (3, 3), "f4", external=[(folder / "secret", 0, 36)])


def virtual(file, folder):
    layout = h5py.VirtualLayout((3, 3), "f4")
    layout[:] = h5py.VirtualSource(folder / "missing.h5", "values", (3, 3))
    file.create_virtual_dataset("values", layout)


def external_link(file, folder):
    with h5py.File(folder / "other.h5", "w") as other:
        other["values"] = np.zeros((3, 3), np.float32)
    file["values"] = h5py.ExternalLink(folder / "other.h5", "values")


def soft_link(file, folder):
    file["other"] = np.zeros((3, 3), np.float32)
    file["values"] = h5py.SoftLink("/other")


def own_group(file, folder):
    file["values"] = file["/"]


def bomb(file, folder):
    file.create_dataset(
        "values", (1 << 26, 3), "f4", chunks=(1 << 20, 3), compression="gzip", fillvalue=0
    )[: 1 << 20] = 0


def dataset(*arguments, **options):
    def add(file, folder):
        file.create_dataset("values", *arguments, **options)

    return add


ELSEWHERE = "'values' is stored in other files"


@pytest.mark.parametrize(
    ("add", "message"),
    [
        (external_data, ELSEWHERE),
        (virtual, ELSEWHERE),
        (external_link, "'values' is a link to another place"),
        (soft_link, "'values' is a link to another place"),
        (own_group, "'values' is not a dataset"),
        (lambda file, folder: None, "'values' is missing"),
        (dataset((1 << 40, 40), "f2", chunks=(1024, 40)), "declares 87,960,930,222,080 bytes"),
        (dataset((3, 3), "f4"), "declares 36 bytes, but its file of"),
        (dataset((3, 3), "f4", chunks=(1, 3), compression="gzip"), "lacks some of its content"),
        (bomb, "declares 805,306,368 bytes"),
        (dataset((3,), "f4", data=[1, 2, 3]), "has 1 dimensions, not 2"),
        (dataset(data=h5py.Empty("f4")), "has no dimensions, not 2"),
        (dataset(data=[["a"]], dtype=h5py.string_dtype()), "not contain floating-point numbers"),
        (dataset((1, 1), h5py.ref_dtype), "does not contain floating-point numbers"),
        (dataset((1, 1), np.dtype([("a", "f4")])), "does not contain floating-point numbers"),
        (dataset((1, 1), h5py.vlen_dtype("f4")), "does not contain floating-point numbers"),
    ],
)
def test_a_dataset_that_the_file_does_not_hold_whole_is_refused(tmp_path, add, message):
    path = tmp_path / "file.h5"
    with h5py.File(path, "w") as file:
        file.attrs["format"] = FORM
        file.create_dataset("ids", data=["a"], dtype=h5py.string_dtype())
        add(file, tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_filters_that_are_not_known_are_refused(tmp_path):
    path = tmp_path / "file.h5"
    with h5py.File(path, "w") as file:
        file.attrs["format"] = FORM
        file.create_dataset("values", data=np.ones((4, 4), "i4"), scaleoffset=0, chunks=(4, 4))
    with open_hdf5(path, FORM) as file, pytest.raises(UserError, match="has the filter 6; only"):
        file.dataset("values", "iu", 2)


@pytest.mark.parametrize(
    "options", [{}, {"compression": "gzip", "shuffle": True}, {"compression": "lzf"}]
)
def test_files_of_other_programs_are_read(tmp_path, options):
    path = tmp_path / "file.h5"
    with h5py.File(path, "w", userblock_size=512) as file:
        file.attrs["format"] = FORM
        file.create_dataset("values", data=VALUES.astype(">f4"), **options)
        file.create_dataset("ids", data=["ü", "b"], dtype=h5py.string_dtype())
    values, ids = read(path)
    assert np.array_equal(values, VALUES) and ids == ["ü", "b"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array(["a", "b"], h5py.string_dtype()), "not one value of type text"),
        (3, "not one value of type text"),
        (np.bytes_(b"x" * 9999), "has more than 4096 bytes"),
        (np.bytes_(b"\xff"), "attribute 'format' is not UTF-8"),
        ("other", "format is 'other', expected 'test 1'"),
        (None, "attribute 'format' is missing"),
    ],
)
def test_attributes_of_another_form_are_refused(tmp_path, value, message):
    path = tmp_path / "file.h5"
    with h5py.File(path, "w") as file:
        if value is not None:
            file.attrs["format"] = value
    with pytest.raises(UserError, match=message):
        read(path)


def read_with_damaged_heap(path, sizes):
    """The exit status is the number of sizes that are not refused."""
    resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
    with h5py.File(path, "w") as file:
        file.attrs["format"] = FORM
        file["values"] = VALUES
        file.create_dataset("ids", data=["a"], dtype=h5py.string_dtype())
    read(path)
    whole = path.read_bytes()
    first = whole.index(b"GCOL") + 16
    objects = {"text": first + 8, "free space": first + 24 + 24 + 8}  # after the format and the id
    wrong = 0
    for name, size in sizes:
        place = objects[name]
        path.write_bytes(whole[:place] + size.to_bytes(8, "little") + whole[place + 8 :])
        try:
            read(path)
            wrong += 1
        except UserError as error:
            wrong += str(error) != f"{path}: the heap of its texts is damaged; write the file again"
    return wrong


def test_a_heap_that_hdf5_would_read_without_end_is_refused(tmp_path):
    sizes = [("text", 2**64 - 16), ("text", 2**63), ("free space", 0), ("free space", 5000)]
    arguments = (tmp_path / "file.h5", sizes)
    assert Program(tmp_path, *arguments, function=read_with_damaged_heap).end() == (0, "")


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="Linux has a file that fails so")
def test_a_disk_that_cannot_be_read_is_not_a_damaged_file():
    path = Path("/proc/self/mem")
    failed = pytest.raises(UserError, match=rf"{path}: cannot be read \(Input/output error\)$")
    with failed, open_hdf5(path, "x"):
        pass


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"cannot be read \(No such file"):
        read(tmp_path / "none.h5")
    with pytest.raises(UserError, match="not a file"):
        read(tmp_path)
