"""The kernels of the loss against its readable form in float64: on a GPU, or interpreted."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_training import MODEL, TRAIN, make_frames, trainer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from acoustic_kd.features.frame_sequence import NO_TARGET
from acoustic_kd.training import losses
from acoustic_kd.training.losses import distillation_loss

loss_kernel = pytest.importorskip(
    "acoustic_kd.training.loss_kernel", reason="Triton is not installed"
)
TOLERANCE = {torch.float32: (1e-4, 2e-5), torch.bfloat16: (2e-2, 2e-2), torch.float16: (3e-3, 3e-3)}


KERNELS = losses._kernels.__wrapped__
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(scope="module", autouse=True)
def kernels():
    """`losses.fused_loss` uses the kernels on any device, for blocks of 16 classes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss_kernel, "BLOCK", 16)
        patch.setattr(losses, "_fits_kernels", lambda logits, classes: True)
        patch.setattr(losses, "_kernels", lambda: loss_kernel.KernelLoss)
        yield


def check(logits, soft, hard, temperature, weight, classes, scale=1.0):
    """Loss and gradient are those of the readable form, of the same logits in float64."""
    logits, soft, hard, classes = (
        tensor if tensor is None else tensor.to(DEVICE) for tensor in (logits, soft, hard, classes)
    )
    given_logits, exact = logits.requires_grad_(), logits.detach().double().requires_grad_()
    loss = losses.fused_loss(given_logits, soft, hard, temperature, weight, classes)
    assert loss.dtype == torch.float32
    (loss * scale).backward()
    precise = None if soft is None else soft.double()
    if precise is None:
        expected = weight * torch.nn.functional.cross_entropy(
            exact, hard, ignore_index=NO_TARGET, reduction="sum"
        )
    else:
        expected = distillation_loss(exact, precise, hard, temperature, weight, classes).sum()
    (expected * scale).backward()
    relative, absolute = TOLERANCE[logits.dtype]
    torch.testing.assert_close(loss.double(), expected, rtol=1e-4, atol=1e-4)
    assert given_logits.grad.dtype == logits.dtype
    size = max(1.0, temperature) * scale
    torch.testing.assert_close(
        given_logits.grad.double(), exact.grad, rtol=relative, atol=absolute * size
    )


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    frames=st.integers(0, 4),
    classes=st.integers(2, 50),
    kept=st.sampled_from([None, 1, 3, 20]),
    temperature=st.sampled_from([1.0, 2.0, 7.5]),
    weight=st.sampled_from([0.0, 0.5]),
    hard=st.sampled_from(["none", "all", "some"]),
    dtype=st.sampled_from(list(TOLERANCE)),
)
def test_values_and_gradients(seed, frames, classes, kept, temperature, weight, hard, dtype):
    generator = torch.Generator().manual_seed(seed)
    logits, teacher = (4 * torch.randn(frames, classes, generator=generator) for _ in range(2))
    targets = torch.randint(classes, (frames,), generator=generator)
    if hard == "some":
        targets[::2] = NO_TARGET
    soft, chosen = torch.softmax(teacher / temperature, -1), None
    if kept is not None:
        soft, chosen = soft.topk(min(kept, classes), -1)
        padded = torch.rand(soft.shape, generator=generator) < 0.2 * (kept < classes)
        padded[:, 0] = False
        chosen = torch.where(padded, chosen[:, :1], chosen)  # as top-p stores frames with few
        soft = soft.masked_fill(padded, 0)
    hard_targets = None if hard == "none" else targets
    check(logits.to(dtype), soft, hard_targets, temperature, weight, chosen, scale=0.25)


@pytest.mark.parametrize("known", [True, False])
def test_hard_targets_alone(known):
    targets = torch.tensor([3, 0, 39]) if known else torch.full((3,), NO_TARGET)
    check(5 * torch.randn(3, 40), None, targets, 1.0, 0.7, None)


@pytest.mark.parametrize("kept", [None, 4])
@pytest.mark.parametrize("size", [60.0, 1e4])
def test_logits_far_apart(kept, size):
    """The kept classes have all of the prediction's mass, and 1 - Σ q would have no digits."""
    logits = torch.zeros(2, 40)
    logits[:, :4] = torch.tensor([size, size - 1, size - 3, size + 2])
    soft, chosen = torch.softmax(torch.randn(2, 40), -1), None
    if kept:
        soft, chosen = soft[:, :4], torch.arange(4).repeat(2, 1)
    check(logits, soft, torch.tensor([0, 17]), 2.0, 0.5, chosen)


@pytest.mark.parametrize("wrong", [40, 45, 2**40])
def test_what_is_not_a_class_makes_the_loss_nan(wrong):
    """On a GPU it would be read beyond the logits."""
    logits, soft = torch.randn(2, 40, device=DEVICE), torch.full((2, 2), 0.25, device=DEVICE)
    classes = torch.tensor([[0, 1], [3, 4]], device=DEVICE)
    hard = torch.tensor([wrong, 0], device=DEVICE)
    assert losses.fused_loss(logits, soft, hard, 2.0, 0.5, classes).isnan()
    classes[1, 1] = wrong
    assert losses.fused_loss(logits, soft, None, 2.0, 0.5, classes).isnan()


def test_without_a_compiler_pytorch_computes_the_loss(monkeypatch, capfd):
    def refuse(*arguments):
        raise RuntimeError("Failed to find C compiler.\nPlease specify via CC")

    monkeypatch.setattr(losses, "_kernels", KERNELS)
    monkeypatch.setattr(loss_kernel.KernelLoss, "apply", refuse)
    logits = torch.randn(2, 40)
    loss = losses.fused_loss(logits, torch.softmax(logits, -1), None, 2.0, 0.5)
    assert loss > 0
    error = capfd.readouterr().err
    assert error.count("\n") == 1 and "Triton cannot compile the loss (" in error


def test_logits_that_are_a_view_of_a_larger_tensor():
    logits = torch.randn(40, 3).T
    check(logits, torch.softmax(torch.randn(3, 40), -1), None, 2.0, 0.5, None)


NO_KERNELS = {
    "alias", "as_strided", "detach", "empty", "empty_like", "empty_strided", "expand", "new_empty",
    "permute", "select", "set_", "slice", "split", "squeeze", "t", "tensor_split", "transpose",
    "unbind", "unsqueeze", "_unsafe_view", "view",
}  # fmt: skip
WAITS = {"_local_scalar_dense", "is_nonzero", "item", "nonzero"}


class Census(TorchDispatchMode):
    """Counts operations that launch a kernel or make the host wait, and bytes of K-wide tensors."""

    def __init__(self, classes):
        super().__init__()
        self.kernels, self.waits, self.wide, self._classes = 0, [], 0, classes

    def __torch_dispatch__(self, function, kinds, arguments=(), options=None):
        made = function(*arguments, **(options or {}))
        name = function.name().removeprefix("aten::").partition(".")[0]
        self.waits += [name] if name in WAITS else []
        if name not in NO_KERNELS:
            self.kernels += 1
        if name not in NO_KERNELS | {"addmm", "mm"}:
            for tensor in tree_leaves((arguments, made)):
                if isinstance(tensor, torch.Tensor) and tensor.shape[1:] == (self._classes,):
                    self.wide += tensor.nbytes
        return made


def test_a_step_launches_few_kernels_and_never_waits(tmp_path):
    """For the paper's eight layers. Beside products and the loss, only the sum over frames that is
    the gradient of the output's biases reads a tensor as large as the logits, once.
    """
    classes, frames = 60, make_frames(classes=60)
    model = replace(MODEL, layers=8, dropout=0.0)
    train = replace(TRAIN, bfloat16=True)
    subject = trainer(tmp_path, True, train, data=frames, model=model)
    subject._step(torch.arange(50), 50, 13)
    with Census(classes) as census:
        subject._step(torch.arange(50), 50, 13)
    assert not census.waits
    assert census.kernels <= 150
    assert census.wide <= 2 * (50 + 1) * classes


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from acoustic_kd.training import loss_kernel

POINTERS = {"soft": "*fp32", "classes": "*i64", "hard": "*i64", "losses": "*fp32", "sums": "*fp32",
            "upstream": "*fp32", "count": "i32", "kept_count": "i32", "soft_kind": "constexpr",
            "has_hard": "constexpr", "block": "constexpr", "kept_block": "constexpr",
            "sums_size": "constexpr"}
for kernel in (loss_kernel._forward, loss_kernel._backward):
    for logits in ("*bf16", "*fp32"):
        for soft_kind in range(3):
            types = {n: POINTERS.get(n, "fp32") for n in kernel.arg_names}
            types |= {n: logits for n in ("logits", "gradient") if n in types}
            values = {"soft_kind": soft_kind, "has_hard": True, "block": 4096, "kept_block": 32,
                      "sums_size": loss_kernel.SUMS}
            constants = {n: v for n, v in values.items() if n in types}
            source = ASTSource(kernel, types, constexprs=constants)
            compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32))
            assert ".target sm_90" in compiled.asm["ptx"]
"""


@pytest.mark.slow
def test_they_compile_for_a_gpu_on_a_machine_without_one(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    subprocess.run([sys.executable, "-c", COMPILE], env=environment, check=True)
