"""docs/files.md: the package reads files that are written by the page alone, and the recipe writes
the files of the table and no others.
"""

import hashlib
import json
import re
import zlib

import h5py
import kaldifst
import numpy as np
import pytest
import torch
from files_page import PAGE, table_patterns
from safetensors.numpy import load_file

from acoustic_kd.cli import main
from acoustic_kd.features.frame_sequence import Classes
from acoustic_kd.features.frames import read_frames
from acoustic_kd.settings import ModelConfig
from acoustic_kd.soft_targets.read import read_soft_targets
from acoustic_kd.system.steps import read_done
from acoustic_kd.training.model import load_model, save_model, settings_of
from acoustic_kd.training.networks import build_network

RNG = np.random.default_rng(0)


# --- written by the page, read by the package ---------------------------------------------------


def write_frames(path, features, targets, ids, offsets):
    """A frame shard, as the page's own lines write it."""
    code = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1]
    code = code.replace('"shard-00000.h5"', "path").replace('["a", "b"]', "ids")
    code = code.replace("[0, 4, 9]", "offsets")
    exec(code, locals())  # noqa: S102


def test_a_frame_shard_written_by_the_page_is_read(tmp_path, capsys):
    features, targets = RNG.normal(size=(9, 5)), RNG.integers(0, 3, 9)
    write_frames(tmp_path / "shard-00000.h5", features, targets, ["ä", "b#warp1.08"], [0, 4, 9])
    frames = read_frames(tmp_path)
    assert frames.ids == ["ä", "b#warp1.08"] and frames.offsets.tolist() == [0, 4, 9]
    assert frames.classes == Classes(3, "my-classes") and frames.transcribed
    assert torch.equal(frames.features, torch.from_numpy(features.astype(np.float16)))
    assert torch.equal(frames.targets, torch.from_numpy(targets))
    assert main(["inspect", str(tmp_path), "--verify"]) == 0


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def write_soft_shard(path, p, ids, offsets, classes, inventory, kept=3, bits=8, block=4):
    """A shard of top-k soft targets [T, K] at temperature 2, and its manifest entry.

    By docs/files.md, with NumPy and h5py alone; dense where `kept` is K.
    """
    total, count = p.shape
    order = np.argsort(-p, axis=1, kind="stable")[:, :kept]
    values = np.take_along_axis(p, order, 1)
    arrays = {"classes": order.astype(np.uint16)}
    if kept == count:
        arrays, values = {}, p
    if bits == 16:
        arrays["codes"] = values.astype(np.float16)
    else:
        rest = np.maximum(1 - values.sum(1), 1e-9)
        for name, part in (("codes", values), ("tails", rest)):
            arrays[name] = np.clip(np.rint(-16 * np.log2(part)), 0, 255).astype(np.uint8)
        if kept == count:
            del arrays["tails"]
    header = {
        "num_classes": classes, "inventory": inventory, "temperature": 2.0, "mean": "arithmetic",
        "weights": None, "members": ["of another program"], "frames": total,
        "utterances": len(ids), "block_frames": block,
        "encoding": "dense" if kept == count else "top-k", "kept_classes": kept, "kept_mass": 1.0,
        "bits": bits, "seed": 0,
    }  # fmt: skip
    text = json.dumps(header)
    firsts = range(0, total, block)
    starts = [first * kept for first in firsts] + [total * kept]
    checks = [zlib.crc32(json.dumps([text, ids, offsets, starts]).encode())]
    for first in firsts:
        block_bytes = (array[first : first + block].tobytes() for array in arrays.values())
        checks.append(zlib.crc32(b"".join(block_bytes)))
    with h5py.File(path, "w") as file:
        file.attrs["format"] = "acoustic_kd soft targets 2"
        file["header"] = np.bytes_(text)
        file.create_dataset("ids", data=ids, dtype=h5py.string_dtype())
        file["offsets"] = np.array(offsets, np.int64)
        for name, array in arrays.items():
            file[name] = array.reshape(-1)
        file["starts"] = np.array(starts, np.int64)
        file["checks"] = np.array(checks, np.uint32)
    content = path.read_bytes()
    entry = header | {
        "format": "acoustic_kd soft targets 2", "file": path.name, "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(), "bytes_per_frame": len(content) / total,
        "measured": {
            "kept_mass": 1.0, "entropy": 0.0, "divergence": None, "divergence_frames": 0,
        },
    }  # fmt: skip
    entry["digest"] = hashlib.sha256(canonical(entry)).hexdigest()
    path.with_suffix(".json").write_text(json.dumps(entry, indent=2), encoding="utf-8")


def predictions(frames, classes):
    odds = np.exp(RNG.normal(0, 2, (frames, classes)))
    return odds / odds.sum(1, keepdims=True)


@pytest.mark.parametrize("bits", [16, 8])
@pytest.mark.parametrize("kept", [3, 7])
def test_soft_targets_written_by_the_page_are_read(tmp_path, kept, bits, capsys):
    p, ids, offsets = predictions(9, 7), ["ä", "b"], [0, 4, 9]
    soft, store = tmp_path / "soft", tmp_path / "frames"
    soft.mkdir()
    store.mkdir()
    write_soft_shard(soft / "shard-00000.h5", p, ids, offsets, 7, "my-classes", kept, bits)
    write_frames(store / "shard-00000.h5", np.zeros((9, 5)), np.zeros(9), ids, offsets)
    with h5py.File(store / "shard-00000.h5", "a") as file:
        file.attrs["classes"] = 7
    classes, found = read_soft_targets(soft, read_frames(store), 2.0).batch(torch.arange(9))
    order = np.argsort(-p, axis=1)[:, :kept]
    assert (classes is None) == (kept == 7)
    expected = p if kept == 7 else np.take_along_axis(p, order, 1)
    assert kept == 7 or np.array_equal(classes.numpy(), order)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0.05 if bits == 8 else 1e-3)
    assert main(["inspect", str(soft), "--verify"]) == 0


def test_a_model_is_as_the_page_says(tmp_path):
    """Its logits from the stored tensors, in NumPy."""
    config = ModelConfig(layers=3, width=6, dropout=0.2, left_frames=2, right_frames=1)
    torch.manual_seed(0)
    description = {"model": settings_of(config), "dimension": 5, "classes": 4}
    save_model(tmp_path, build_network(config, 5, 4), description)
    model = load_model(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    places = sorted({int(name.split(".")[1]) for name in tensors if name.startswith("hidden.")})
    assert len(places) == 3
    windows = RNG.normal(size=(8, 4 * 5)).astype(np.float32)
    units = windows
    for place in places:
        units = units @ tensors[f"hidden.{place}.weight"].T + tensors[f"hidden.{place}.bias"]
        units = np.maximum(units, 0)
    logits = units @ tensors["output.weight"].T + tensors["output.bias"]
    with torch.inference_mode():
        found = model(torch.from_numpy(windows)).numpy()
    np.testing.assert_allclose(found, logits, rtol=1e-4, atol=1e-5)


# --- what the recipe makes ----------------------------------------------------------------------

SOMETIMES = (
    "align/flat",
    "g2p",
    "audio",
    "checkpoint",
    "untranscribed",
    "copies",
    "transfer",
    "graph/lexicon",
    "align/SPLIT.ark",
    "pieces",
    "specialists",
    "tree-2",
    "speaker_space",
    "transforms",
)  # not in the tiny recipe, or for a time


def test_the_table_names_what_the_recipe_makes(finished_recipe):
    folder, patterns = finished_recipe.directory, table_patterns()
    paths = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    paths = [p for p in paths if p.rpartition("/")[2] not in ("started.json", "done.json")]
    assert [p for p in paths if not any(x.fullmatch(p) for x in patterns.values())] == []
    unused = [row for row, x in patterns.items() if not any(map(x.fullmatch, paths))]
    assert [row for row in unused if not any(word in row for word in SOMETIMES)] == []


def test_records_are_as_the_page_says(finished_recipe):
    for path in finished_recipe.directory.rglob("done.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        keys = ["name", "digest", "settings", "inputs", "seconds", "files", "sha256", "check"]
        assert list(record) == keys
        assert record.pop("check") == hashlib.sha256(canonical(record)).hexdigest()
        for name, expected in record["sha256"].items():
            assert hashlib.sha256((path.parent / name).read_bytes()).hexdigest() == expected
        others = record["files"].keys() - record["sha256"].keys()
        assert all(path.parent.name == "soft_targets" and n.endswith(".h5") for n in others)
        made = {key: record[key] for key in ("name", "settings", "inputs")}
        assert record["digest"] == hashlib.sha256(canonical(made)).hexdigest()
        for name, size in record["files"].items():
            assert (path.parent / name).stat().st_size == size


def test_the_hash_of_the_senones_is_as_the_page_says(finished_recipe):
    folder = finished_recipe.directory
    inventory = json.loads((folder / "senones/inventory.json").read_text(encoding="utf-8"))
    model = json.loads((folder / "members/01/model.json").read_text(encoding="utf-8"))
    assert model["inventory"] == hashlib.sha256(canonical(inventory)).hexdigest()[:32]
    assert model["classes"] == len(inventory["leaves"])


def test_the_graph_is_as_the_page_says(finished_recipe):
    """Its arcs by the page's records, against OpenFst's own reading."""
    path = finished_recipe.directory / "graph" / "HCLG.fst"
    data = path.read_bytes()
    counts = ("start", "states", "arcs")
    head = np.dtype(
        [("magic", "<i4"), ("five", "<i4"), ("kind", "S5"), ("eight", "<i4"), ("arc", "S8"),
         ("version", "<i4"), ("flags", "<i4"), ("properties", "<u8"), *((n, "<i8") for n in counts)]
    )  # fmt: skip
    found = np.frombuffer(data, head, 1)[0]
    values = [found[n] for n in ("magic", "five", "kind", "eight", "arc", "version", "flags")]
    assert values == [2125659606, 5, b"const", 8, b"standard", 2, 0]
    states, arcs = int(found["states"]), int(found["arcs"])
    assert len(data) == head.itemsize + 20 * states + 16 * arcs
    state = np.dtype([("final", "<f4"), *((n, "<u4") for n in ("first", "arcs", "in", "out"))])
    arc = np.dtype([("input", "<i4"), ("output", "<i4"), ("cost", "<f4"), ("next", "<i4")])
    table = np.frombuffer(data, state, states, head.itemsize)
    rows = np.frombuffer(data, arc, arcs, head.itemsize + table.nbytes)
    graph = kaldifst.StdConstFst.read(str(path))
    for number in (int(found["start"]), states // 2, states - 1):
        here = rows[table["first"][number] :][: table["arcs"][number]]
        arcs_read = [
            (a.ilabel, a.olabel, a.weight.value, a.nextstate)
            for a in kaldifst.ArcIterator(graph, number)
        ]
        assert [tuple(row) for row in here.tolist()] == arcs_read
        assert (here["input"] == 0).sum() == table["in"][number]
        assert (here["output"] == 0).sum() == table["out"][number]
        assert table["final"][number] == graph.final(number).value
    labels = [line.split()[0] for line in path.with_name("words.txt").read_text().splitlines()]
    assert labels[0] == "<eps>" and labels[-3:] == ["#0", "<s>", "</s>"]
    senones = json.loads(path.with_name("graph.json").read_text())["senones"]
    assert rows["output"].max() < len(labels) and 0 < rows["input"].max() <= senones


def test_soft_targets_of_another_program_become_the_stage_s_own(finished_recipe, tmp_path, capsys):
    recipe = finished_recipe.copy(tmp_path / "exp")
    out = recipe.directory / "soft_targets"
    for path in out.iterdir():
        path.unlink()
    for path in sorted((recipe.directory / "frames" / "train").glob("shard-*.h5")):
        with h5py.File(path) as file:
            ids, offsets = file["ids"].asstr()[:].tolist(), file["offsets"][:].tolist()
            classes, inventory = int(file.attrs["classes"]), file.attrs["inventory"].decode()
        p = predictions(offsets[-1], classes)
        write_soft_shard(out / path.name, p, ids, offsets, classes, inventory, 20, block=100)
    written = {path.name: path.read_bytes() for path in out.iterdir()}
    assert recipe("soft-targets") == 0
    assert capsys.readouterr().out.count("already written") == len(written) // 2
    assert {name: (out / name).read_bytes() for name in written} == written
    assert read_done(out) is not None
    assert recipe("distill", "train.epochs=1", "distill.epochs=1") == 2  # members' setting changed
    assert recipe("distill", "distill.epochs=1") == 0
