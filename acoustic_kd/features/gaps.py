"""Digital silence in recordings: runs of one constant sample, which gates, muted microphones,
editors and lost packets leave.

No speech and no room sounds like that. A run may part a word in two, so a recogniser hears the
sound before it and after it joined, and gets the times of the whole recording.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

import numpy as np

SHORTEST_GAP_SECONDS = 0.05


class Gaps:
    """Removes the gaps of one recording and remembers where they were.

    Args:
        sample_rate: hertz.
    """

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self.places: list[int] = []  # of each gap, in samples of the joined sound
        self.removed = [0]  # samples before each gap and after the last one

    def join(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The samples of block after block without the gaps, float32 [samples]."""
        shortest, written = int(SHORTEST_GAP_SECONDS * self.sample_rate), 0
        held, dropped = np.zeros(0, np.float32), 0  # the run at the end, and what is left out of it
        for block in blocks:
            samples = np.concatenate([held, block])
            starts = np.flatnonzero(np.diff(samples, prepend=np.nan))
            lengths = np.diff(starts, append=len(samples))
            lengths[0] += dropped
            kept = np.ones(len(samples), bool)
            for run in np.flatnonzero(lengths[:-1] >= shortest):
                start, stop = starts[run], starts[run + 1]
                kept[start:stop] = False
                self._note(written + int(kept[:start].sum()), int(lengths[run]))
            last = int(starts[-1])
            yield samples[:last][kept[:last]]
            written += int(kept[:last].sum())
            # Of a long run a part is enough: its value, and that it is a gap.
            held = samples[last:][:shortest]
            dropped = int(lengths[-1]) - len(held)
        if len(held) + dropped >= shortest > 0:
            self._note(written, len(held) + dropped)
        else:
            yield held

    def _note(self, place: int, length: int) -> None:
        self.places.append(place)
        self.removed.append(self.removed[-1] + length)

    def time(self, seconds: float, end: bool = False) -> float:
        """The time in the recording of a time in the joined sound.

        Args:
            end: of two times, before a gap and after it, the one before: a word ends there.
        """
        find = bisect_left if end else bisect_right
        before = find(self.places, round(seconds * self.sample_rate))
        return seconds + self.removed[before] / self.sample_rate
