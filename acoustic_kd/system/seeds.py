"""Seeds of random numbers."""

import torch

from acoustic_kd.system.files import json_sha256


def seed_of(*parts: int | str) -> int:
    """A 63-bit seed from numbers and names; different parts give unrelated seeds."""
    return int(json_sha256(list(parts))[:15], 16)


def seed_generator(device: torch.device, seed: int) -> None:
    """Seed the generator that random numbers on `device` come from.

    `torch.manual_seed` seeds every device's, and for one that is not in use keeps a stack trace a
    call: more work than a step of a small net, and ever more memory.
    """
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)
