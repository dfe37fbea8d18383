"""What a store of soft targets holds, and whether it is whole."""

from dataclasses import dataclass
from pathlib import Path

from acoustic_kd.soft_targets.manifest import Entry, check_pair, entry_path, read_entry
from acoustic_kd.soft_targets.shard import open_soft_targets
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import sha256


def all_shards(directory: Path) -> list[Path]:
    """The shards there are, and those whose manifest entry is all that is left."""
    found = [*Path(directory).glob("shard-*.h5"), *Path(directory).glob("shard-*.json")]
    return sorted({path.with_suffix(".h5") for path in found})


@dataclass
class StoreReport:
    """What the manifest says of a store, and what is wrong with it, one line each."""

    entries: dict[Path, Entry]
    problems: list[str]

    def rows(self) -> list[tuple[str, str]]:
        """What the store holds, for people: name and value."""
        if not self.entries:
            return []
        headers = [entry.header for entry in self.entries.values()]
        one, frames = headers[0], sum(header.frames for header in headers)
        size = sum(entry.bytes for entry in self.entries.values())
        weights = one.weights and ", ".join(f"{weight:.3g}" for weight in one.weights)
        divergence = self._mean("divergence", "divergence_frames")
        kept, entropy = self._mean("kept_mass"), self._mean("entropy")
        return [
            ("shards", f"{len(self.entries)}"),
            ("utterances", f"{sum(header.utterances for header in headers):,}"),
            ("frames", f"{frames:,}"),
            ("classes", f"{one.num_classes:,} (inventory {one.inventory[:12]})"),
            ("members", f"{len(one.members)}"),
            ("mean", one.mean + (f", weights {weights}" if weights else "")),
            ("temperature", f"{one.temperature:g}"),
            ("encoding", str(one.encoding)),
            ("bytes a frame", f"{size / max(frames, 1):.1f} ({size:,} bytes in all)"),
            ("kept mass", f"{100 * (kept or 0):.2f} %"),
            ("entropy", f"{entropy or 0:.4g} nats a frame"),
            ("KL to dense", f"{divergence:.3g} nats a frame" if divergence is not None else "-"),
        ]

    def _mean(self, what: str, weight: str | None = None) -> float | None:
        """The mean over frames of a measured number."""
        total = frames = 0.0
        for entry in self.entries.values():
            number = entry.measured[weight] if weight else entry.header.frames
            total += number * (entry.measured[what] or 0.0)
            frames += number
        return total / frames if frames else None


def examine(directory: Path, verify: bool = False) -> StoreReport:
    """Look at the manifest of a store, its shards' sizes, and whether they are of one store.

    Args:
        verify: read the shards too, and compare every check sum.
    """
    found = StoreReport({}, [])
    for path in all_shards(directory):
        try:
            found.entries[path] = entry = read_entry(path)
            found.problems += check_whole(path, entry) if verify else check_size(path, entry)
        except UserError as error:
            found.problems.append(str(error))
    for path, entry in found.entries.items():
        first, one = next(iter(found.entries.items()))
        found.problems += [
            f"{path}: {what} is {ours}, but in {first.name} it is {expected}"
            for what, ours, expected in entry.header.differences_from(one.header)
        ]
    return found


def check_size(path: Path, entry: Entry) -> list[str]:
    """What the size of a shard says is wrong with it."""
    if not path.exists():
        return [f"{path}: lost; {entry_path(path).name} is there"]
    size = path.stat().st_size
    if size != entry.bytes:
        return [f"{path}: {size} bytes, but {entry_path(path).name} says {entry.bytes}"]
    return []


def check_whole(path: Path, entry: Entry) -> list[str]:
    """What is wrong with a shard, by all its check sums; damaged blocks are named."""
    problems = check_size(path, entry)
    if not path.exists():
        return problems
    digest = sha256(path)
    try:
        with open_soft_targets(path) as shard:
            blocks = [n for n in shard.header.blocks if shard.block(n) is None]
            problems += [shard.describe_damage(number) for number in blocks]
            if not problems:
                check_pair(path, shard.header, entry)
    except UserError as error:
        problems.append(str(error))
    if digest != entry.sha256 and not problems:
        problems.append(
            f"{path}: SHA-256 is {digest[:12]}…, but {entry_path(path).name} says "
            f"{entry.sha256[:12]}…; its blocks are whole, what is around them is not"
        )
    return problems
