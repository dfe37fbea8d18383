"""Whether frames of Kaldi's are the frames here."""

from typing import Any, Protocol, TypeVar

from acoustic_kd.errors import UserError


class Sliceable(Protocol):
    """Rows of which some that lie together can be taken: an array, or sparse posteriors."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Any: ...


Rows = TypeVar("Rows", bound=Sliceable)


def fitted(rows: Rows, frames: int, snip_edges: bool, where: str) -> Rows:
    """What Kaldi has of each frame of an utterance, of the frames that there are here.

    With `--snip-edges=false` Kaldi has round(N / S) frames of N samples, S a frame's shift, frame t
    centred on sample (t + 1/2)·S; here there are 1 + ⌊(N − 2.5·S) / S⌋, frame t beginning at t·S.
    That is two fewer whatever N is, and theirs that is nearest to ours of number t, a quarter of
    the shift (2.5 ms) from it, is number t + 1: so their first and last frames are left out.

    Args:
        rows: one a frame.
        frames: of the utterance, here.
        snip_edges: as Kaldi's features were made, from the same sound.
        where: file and utterance, for messages.

    Raises:
        UserError: the numbers of frames are not those.
    """
    expected = frames if snip_edges else frames + 2
    if len(rows) == expected:
        return rows if snip_edges else rows[1:-1]
    why = "not of a chain model's every third; is it the same sound?"
    if snip_edges and len(rows) == frames + 2:
        why = "give align.snip_edges=false if Kaldi's features were made with --snip-edges=false"
    elif not snip_edges:
        why = f"with align.snip_edges=false Kaldi must have {expected}, two more"
    raise UserError(
        f"{where}: {len(rows)} frames there, but {frames} here; they must be the same frames of "
        f"10 ms ({why})"
    )
