"""Summaries of a store of soft targets, and checks that it is undamaged."""

from dataclasses import dataclass
from pathlib import Path

from acoustic_kd.features.frame_shard import shown_inventory
from acoustic_kd.soft_targets.manifest import (
    Entry,
    check_pair,
    entry_path,
    read_entry,
    size_problem,
)
from acoustic_kd.soft_targets.shard import open_soft_targets
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import sha256


def all_shards(directory: Path) -> list[Path]:
    """The shards of a store, with those of which only the manifest entry is left."""
    paths = [*Path(directory).glob("shard-*.h5"), *Path(directory).glob("shard-*.json")]
    return sorted({path.with_suffix(".h5") for path in paths})


@dataclass
class StoreReport:
    """The manifest entries of a store, and its problems, a line each."""

    entries: dict[Path, Entry]
    problems: list[str]

    def rows(self) -> list[tuple[str, str]]:
        """A summary for people: name and value."""
        if not self.entries:
            return []
        headers = [entry.header for entry in self.entries.values()]
        first, frames = headers[0], sum(header.frames for header in headers)
        size = sum(entry.bytes for entry in self.entries.values())
        weights = first.weights and ", ".join(f"{weight:.3g}" for weight in first.weights)
        divergence, entropy = self._mean("divergence", "divergence_frames"), self._mean("entropy")
        return [
            ("shards", f"{len(self.entries)}"),
            ("utterances", f"{sum(header.utterances for header in headers):,}"),
            ("frames", f"{frames:,}"),
            ("classes", f"{first.num_classes:,} (inventory {shown_inventory(first.inventory)})"),
            ("members", f"{len(first.members)}"),
            ("mean", first.mean + (f", weights {weights}" if weights else "")),
            ("temperature", f"{first.temperature:g}"),
            ("encoding", str(first.encoding)),
            ("bytes a frame", f"{size / max(frames, 1):.1f} ({size:,} bytes in all)"),
            ("kept mass", f"{100 * (self._mean('kept_mass') or 0):.2f} %"),
            ("entropy", f"{entropy:.4g} nats a frame" if entropy is not None else "-"),
            ("KL to dense", f"{divergence:.3g} nats a frame" if divergence is not None else "-"),
        ]

    def _mean(self, name: str, weight: str | None = None) -> float | None:
        """The mean over frames of a measured number; `weight` names the number of frames."""
        known = [entry for entry in self.entries.values() if entry.measured[name] is not None]
        frames = [entry.measured[weight] if weight else entry.header.frames for entry in known]
        total = sum(n * e.measured[name] for n, e in zip(frames, known, strict=True))
        return total / sum(frames) if any(frames) else None


def examine(directory: Path, verify: bool = False) -> StoreReport:
    """Check the manifest of a store, the sizes of its shards, and that they are of one store.

    With `verify` the shards are read, too: every check sum is compared, damaged blocks are named.
    """
    report = StoreReport({}, [])
    for path in all_shards(directory):
        try:
            report.entries[path] = entry = read_entry(path)
            if problem := size_problem(path, entry):
                report.problems.append(problem)
            elif verify:
                report.problems += _damage(path, entry)
        except UserError as error:
            report.problems.append(str(error))
    for path, entry in report.entries.items():
        first_path, first = next(iter(report.entries.items()))
        differences = entry.header.differences_from(first.header, first_path.name)
        report.problems += [f"{path}: {difference}" for difference in differences]
    return report


def _damage(path: Path, entry: Entry) -> list[str]:
    """Problems with a shard by all its check sums."""
    with open_soft_targets(path) as shard:
        blocks = shard.header.blocks
        if damaged := [n for n in blocks if shard.read(range(n, n + 1))[1] is not None]:
            return [shard.describe_damage(number) for number in damaged]
        check_pair(path, shard.header, entry)
    if (digest := sha256(path)) == entry.sha256:
        return []
    return [
        f"{path}: SHA-256 is {digest[:12]}…, but {entry_path(path).name} says "
        f"{entry.sha256[:12]}…; its blocks are undamaged, but other parts are not"
    ]
