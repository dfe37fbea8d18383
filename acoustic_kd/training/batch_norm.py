"""Batch normalisation over the frames of all processes.

PyTorch's layers take mean and variance over the frames of one process, so a model would depend on
the number of processes; `torch.nn.SyncBatchNorm` needs GPUs. They also refuse a batch of one frame,
which the last batch of an epoch may be.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from acoustic_kd.training.precision import sum_dtype

LAYERS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class GlobalBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation of [B, C, …] over the frames of all processes, in training mode."""

    @classmethod
    def like(cls, layer: nn.modules.batchnorm._BatchNorm) -> "GlobalBatchNorm":
        """A layer with the parameters and the buffers of another one."""
        made = cls(layer.num_features, layer.eps, layer.momentum, layer.affine,
                   layer.track_running_stats)  # fmt: skip
        made.__dict__.update(vars(layer))
        return made

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions."""

    def forward(self, units: Tensor) -> Tensor:
        """[B, C, …] of [B, C, …]."""
        if not self.training or self.alone(units):
            return super().forward(units)
        precise = units.float()
        axes = [axis for axis in range(units.dim()) if axis != 1]
        channels, kind = units.shape[1], sum_dtype(units.device)
        count = torch.tensor([units.numel() / channels], dtype=kind, device=units.device)
        sums = [precise.sum(axes, dtype=kind), precise.square().sum(axes, dtype=kind), count]
        total = all_reduce(torch.cat(sums)) if _several_processes() else torch.cat(sums)
        mean, square, _ = (total / total[-1]).split([channels, channels, 1])
        variance = (square - mean.square()).clamp(min=0)
        mean, variance = mean.float(), variance.float()
        self._track(mean.detach(), variance.detach(), float(total[-1].detach()))
        shape = [1, channels] + [1] * (units.dim() - 2)
        scale = torch.rsqrt(variance + self.eps)
        scale = scale if self.weight is None else scale * self.weight
        shift = -mean * scale if self.bias is None else self.bias - mean * scale
        normalised: Tensor = (precise * scale.view(shape) + shift.view(shape)).to(units.dtype)
        return normalised

    def alone(self, units: Tensor) -> bool:
        """Whether PyTorch's own layer does: for one process and more than one number a channel."""
        return not _several_processes() and units.numel() > units.shape[1]

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: float) -> None:
        """Move the running mean and variance towards those of a batch."""
        batches = self.num_batches_tracked
        if self.running_mean is None or self.running_var is None or batches is None or count <= 1:
            return
        batches += 1
        share = 1 / float(batches) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), share)
        self.running_var.lerp_((variance * count / (count - 1)).to(self.running_var), share)


def _several_processes() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def over_all_processes(network: nn.Module) -> nn.Module:
    """Replace the network's layers of batch normalisation by `GlobalBatchNorm`."""
    for name, child in network.named_children():
        if isinstance(child, LAYERS) and type(child) in LAYERS:
            setattr(network, name, GlobalBatchNorm.like(child))
        else:
            over_all_processes(child)
    return network
