"""What came of the trials of chaos.py, and the table of it."""

import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from chaos_experiment import Site
from chaos_runs import KINDS
from chaos_trials import REFUSED, SAME, VIOLATION

SHOWN = 700  # characters of details


@dataclass
class Running:
    """A trial that runs in a process of its own."""

    number: int
    kind: str
    site: Site
    pid: int
    end: float


@dataclass
class Tally:
    """What came of the trials."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    violations: dict[tuple[str, str, str], list[int]] = field(default_factory=dict)
    signals: int = 0

    def add(self, running: Running, result: dict[str, Any], show: bool) -> None:
        """Count a result; print a violation, or any result."""
        outcome, kind = result["outcome"], running.kind
        self.outcomes[kind, outcome] += 1
        self.signals += result["signals"]
        if outcome == VIOLATION:
            key = (kind, result["subject"], result["what"])
            self.violations.setdefault(key, []).append(running.number)
        if show or outcome == VIOLATION:
            print(f"trial {running.number} ({kind}): {'; '.join(result['did'])}")
            print(f"  {outcome}{': ' if result['what'] else ''}{result['what']}")
            for line in result["details"][-SHOWN:].splitlines():
                print(f"    {line}")
            sys.stdout.flush()

    def print(self, minutes: float) -> None:
        """The table, and violations by what was broken and what came."""
        print(f"\n{'kind':<10} {'tried':>7} {SAME:>12} {REFUSED:>20} {'violations':>11}")
        for kind in (*KINDS, "all"):
            counts = [
                sum(n for (k, o), n in self.outcomes.items() if o == outcome and kind in (k, "all"))
                for outcome in (SAME, REFUSED, VIOLATION)
            ]
            if sum(counts):
                same, refused, wrong = counts
                print(f"{kind:<10} {sum(counts):>7} {same:>12} {refused:>20} {wrong:>11}")
        print(f"{self.signals} signals sent; {minutes:.1f} minutes")
        for (kind, subject, what), numbers in sorted(
            self.violations.items(), key=lambda item: -len(item[1])
        ):
            some = " ".join(map(str, numbers[:3]))
            print(f"{len(numbers):>5} × {kind}: {subject}: {what} (--only {some})")
