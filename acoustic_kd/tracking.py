"""Metrics sent to a tracker while a model trains, by way of Accelerate."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from acoustic_kd.errors import UserError, installation

Track = Callable[[dict[str, float], int], None]  # values by name, and the epoch


@contextmanager
def tracking(kind: str | None, name: str, folder: Path) -> Iterator[Track]:
    """A function that tells a tracker of an epoch; it does nothing where there is no tracker.

    Of several processes the first alone is heard.

    Args:
        kind: of `config.TRACKERS`, or None.
        name: what the run is called there.
        folder: where trackers that write files do so, in a folder of that name.

    Raises:
        UserError: the tracker's library is not installed.
    """
    if kind is None:
        yield lambda values, epoch: None
        return
    # Here: the trackers take a second to import.
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    tracker = LOGGER_TYPE_TO_CLASS[kind](name, logging_dir=folder)
    try:
        tracker.start()
    except ImportError:
        raise UserError(
            f"setting 'train.tracker' is {kind}, which is not installed: {installation(kind)}"
        ) from None
    try:
        yield lambda values, epoch: tracker.log(values, step=epoch)
    finally:
        tracker.finish()
