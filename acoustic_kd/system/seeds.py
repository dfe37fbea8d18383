"""Seeds of random numbers."""

import torch

from acoustic_kd.system.files import json_sha256


def seed_of(*parts: int | str) -> int:
    """A 63-bit seed from numbers and names; different parts give unrelated seeds."""
    return int(json_sha256(list(parts))[:15], 16)


def seed_generator(device: torch.device, seed: int) -> None:
    """Seed the generator that random numbers on `device` come from.

    `torch.manual_seed` seeds the generators of all devices, and keeps a stack trace of each call
    for devices that are not in use: slower than a step of a small net, with growing memory.
    """
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)
