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
    """Removes the gaps of one recording and remembers where they were."""

    def __init__(self) -> None:
        self._places: list[float] = []  # of each gap, in seconds of the joined sound
        self._removed = [0.0]  # seconds before each gap and after the last one

    def join(self, blocks: Iterable[np.ndarray], sample_rate: int) -> Iterator[np.ndarray]:
        """The samples of block after block without the gaps, float32 [samples].

        Args:
            sample_rate: hertz.
        """
        shortest, written = int(SHORTEST_GAP_SECONDS * sample_rate), 0
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
                place = written + int(kept[:start].sum())
                self._note(place / sample_rate, int(lengths[run]) / sample_rate)
            last = int(starts[-1])
            yield samples[:last][kept[:last]]
            written += int(kept[:last].sum())
            # Of a long run a part is enough: its value, and that it is a gap.
            held = samples[last:][:shortest]
            dropped = int(lengths[-1]) - len(held)
        if len(held) + dropped >= shortest > 0:
            self._note(written / sample_rate, (len(held) + dropped) / sample_rate)
        else:
            yield held

    def _note(self, place: float, seconds: float) -> None:
        self._places.append(place)
        self._removed.append(self._removed[-1] + seconds)

    def time(self, seconds: float, end: bool = False) -> float:
        """The time in the recording of a time in the joined sound.

        Args:
            end: of two times, before a gap and after it, the one before: a word ends there.
        """
        find = bisect_left if end else bisect_right
        return seconds + self._removed[find(self._places, seconds)]
