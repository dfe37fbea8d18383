"""The training loop, for members and distilled models alike: only their targets differ.

Every batch is the same on any number of processes: the order of frames follows from seed and
epoch (`batches`), process r takes frames r, r + N, … of each batch, and a gradient is the sum over
all the batch's frames divided by their number. Dropout and masks follow from seed, epoch, step and
process. So a killed run resumes from the checkpoint alone, with bit-identical results.
"""

import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from acoustic_kd.features.frames import Frames
from acoustic_kd.settings import TrainConfig, check_masks, check_values
from acoustic_kd.soft_targets.targets import SoftTargets
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import write_jsonl
from acoustic_kd.system.memory import memory_budget
from acoustic_kd.system.seeds import seed_generator, seed_of
from acoustic_kd.system.signals import Stopped, defer_sigterm
from acoustic_kd.system.steps import changes
from acoustic_kd.training.average import MovingAverage
from acoustic_kd.training.batch_norm import over_all_processes
from acoustic_kd.training.batches import share_of_process
from acoustic_kd.training.checkpoint import CHECKPOINT, read_checkpoint, save_checkpoint
from acoustic_kd.training.chunks import InMemoryData, ShardedData
from acoustic_kd.training.loader import DataLoader
from acoustic_kd.training.losses import fused_loss
from acoustic_kd.training.meter import Meter
from acoustic_kd.training.model import save_model, settings_of, sum_errors
from acoustic_kd.training.networks import (
    build_network,
    check_memory,
    check_network,
    check_window,
    count_parameters,
    limit_norms,
    make_optimizer,
    window_frames,
)
from acoustic_kd.training.other_losses import loss_of_run
from acoustic_kd.training.precision import dtype_of, forward, use_bfloat16
from acoustic_kd.training.processes import (
    from_first,
    make_accelerator,
    report_lost_processes,
    settle_buckets,
)
from acoustic_kd.training.schedule import (
    State,
    TrainingRun,
    is_finished,
    rate_of_step,
    update_from_dev,
    warmed_up,
)
from acoustic_kd.training.tracking import RUN_ID, TrackedRun, Tracker
from acoustic_kd.training.windows import Masks

CHECKPOINT_SHARE = 0.02  # of the time, at most, goes into checkpoints
MIN_CHECKPOINT_SECONDS = 10  # between the checkpoints at the ends of epochs
STOP_CHECK_STEPS = 4  # between two questions to all processes whether one of them must stop


class Trainer:
    """Trains one model on frames with hard targets, or with soft ones beside them."""

    def __init__(
        self,
        training_run: TrainingRun,
        directory: Path,
        train: Frames | ShardedData,
        dev: Frames | None = None,
        soft: SoftTargets | None = None,
        accelerator: Accelerator | None = None,
        augment: Callable[[Tensor], Tensor] | None = None,
        original: Callable[[str], str] | None = None,
        sharers: int = 1,
        model: nn.Module | None = None,
    ) -> None:
        """
        Args:
            directory: for the checkpoint, the metrics and the finished model.
            train: the transfer set, in memory, or in shards with their soft targets if there are
                any; hard targets may be unknown or absent where there are soft ones.
            dev: transcribed frames that steer the learning rate and choose the best epoch; not
                needed where the schedule is fixed beforehand.
            soft: soft targets of `train` in memory; None: train on the hard ones.
            accelerator: the processes of this run; None: make one.
            augment: windows [B, W, D] → windows [B, W, D], changed at random by PyTorch's
                generator; for training only. None: `train.time_mask` and `train.frequency_mask`.
            original: of a transfer set in memory, id → id of the utterance that it is a copy of,
                or the same id. Each epoch then draws one copy of each utterance. None: every
                epoch has all frames.
            sharers: processes, with this one, that train at the same time; they share the free
                memory equally.
            model: the network to train, from windows [B, W, D] to logits [B, K], instead of that of
                `training_run.model`, which still gives the window. The trainer changes it.
        """
        if model is not None and not isinstance(model, nn.Module):
            raise TypeError(f"model is {model!r}, expected an object of a torch.nn.Module class")
        if isinstance(train, ShardedData) and original is not None:
            raise ValueError("original is for frames in memory; pass it to ShardedData")
        data = train if isinstance(train, ShardedData) else InMemoryData(train, soft, original)
        settings, config, seed = training_run.train, training_run.model, training_run.seed
        _check_frames(settings, data, dev)
        check_values(  # else a misspelt kind would train the default network
            {f"model.{key}": value for key, value in settings_of(config).items()}
            | {f"train.{key}": getattr(settings, key) for key in ("schedule", "tracker")}
        )
        accelerator = accelerator or make_accelerator()
        self.training_run, self.accelerator = training_run, accelerator
        self.directory, self.device = Path(directory), accelerator.device
        self.checkpoint = self.directory / CHECKPOINT
        self.dimension, self.classes = data.dimension, data.classes
        self._resumed = read_checkpoint(accelerator, self.checkpoint, training_run.digest)
        state = self._resumed.state if self._resumed else State(rate=settings.learning_rate)
        if state.bfloat16 is None:  # else another machine goes on with other numbers
            choose = partial(use_bfloat16, settings.bfloat16, self.device)
            state.bfloat16 = from_first(accelerator, choose)
        self.state, self.bfloat16 = state, state.bfloat16
        check_window(config, data.longest)
        check_masks(settings, window_frames(config), data.dimension)
        self.given = model is not None
        model = over_all_processes(self._make_network(model, sharers))
        self.parameters = count_parameters(model)
        # Accelerate's optimizer and `backward` would take 0.2 ms a step, and add nothing here.
        self.optimizer = make_optimizer(model, settings.learning_rate, settings.weight_decay)
        self.model = accelerator.prepare_model(model)  # compiled if dynamo is configured
        self.average = MovingAverage(self._network, settings.average) if settings.average else None
        rank, world = accelerator.process_index, accelerator.num_processes
        share = share_of_process(rank, world, settings.streams)
        self.loader = DataLoader(data, config, settings, seed, self.device, self.bfloat16, share)
        self.dev_windows = None if dev is None else self.loader.make_windows(dev)
        self.dev_targets = None if dev is None else dev.labels.to(self.device)
        masks = Masks(settings.time_mask, settings.frequency_mask)
        self.augment, self.sharers = augment or masks, sharers
        self.best_weights: dict[str, Tensor] = {}
        self.saved, self.save_seconds = time.monotonic(), 0.0
        window = window_frames(config) * data.dimension
        numbers = max(2 * data.classes.count, window)  # logits and gradient, or the window
        frame_bytes = (2 if self.bfloat16 else 4) * numbers
        self.micro_batch_frames = max(1, int(settings.max_logits_mb * 1e6 / frame_bytes))

    @property
    def _network(self) -> nn.Module:
        """The network that is trained."""
        network: nn.Module = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        return network

    @property
    def _result(self) -> nn.Module:
        """The network that is evaluated and kept: with averaged weights if `train.average`."""
        return self._network if self.average is None else self.average.network

    @property
    def _trained(self) -> dict[str, nn.Module]:
        """What a checkpoint holds of the networks."""
        return {"model": self._network} | ({"average": self._result} if self.average else {})

    def _make_network(self, given: nn.Module | None, sharers: int) -> nn.Module:
        """The network to train; one of the user's own must pass a batch."""
        config, name = self.training_run.model, self.training_run.name
        dimension, classes = self.dimension, self.classes.count
        network = given
        if network is None:
            free = memory_budget(self.device, None, 0, sharers)
            averaged = self.training_run.train.average > 0
            check_memory(name, config, dimension, classes, averaged, free)
            torch.manual_seed(seed_of("weights", self.training_run.seed))
            network = build_network(config, dimension, classes)
            if self.training_run.initialise is not None:
                self.training_run.initialise(network)
        if given is not None or config.class_ is not None:
            what = config.class_ or f"{name}: {type(network).__name__}"
            check_network(network, what, config, dimension, classes, self.bfloat16)
        return network

    def run(self, keep_checkpoint: bool = False) -> list[dict[str, Any]]:
        """Train to the end, from the checkpoint if there is one; returns the metrics by epoch.

        Args:
            keep_checkpoint: leave the last checkpoint, from which another run ends at once.

        Raises:
            UserError: the loss diverges, or another process of this run has ended.
            Stopped: this process, or another one, was asked to end; a checkpoint is written.
        """
        name, config = self.training_run.name, self.training_run.train
        with defer_sigterm() as self._stop_requested, report_lost_processes(self.accelerator, name):
            self._resume()
            self._choose_num_chunks()
            self.accelerator.wait_for_everyone()  # before the first deletes what others look for
            remaining = range(self.state.epoch, config.epochs)
            with (
                closing(self._start_tracker()) as tracker,
                self.loader.prefetching(remaining, self.state.step),
            ):
                self.meter = Meter(self.training_run, self.state, self.accelerator, tracker)
                while not is_finished(self.state, config):
                    self._epoch()
                    if self._checkpoint_is_due(MIN_CHECKPOINT_SECONDS):
                        self._save()
            if self.accelerator.is_main_process:
                self._write_model(keep_checkpoint)
            self.accelerator.wait_for_everyone()
        return self.state.history

    def _start_tracker(self) -> Tracker:
        name = self.training_run.name
        kind = self.training_run.train.tracker if self.accelerator.is_main_process else None
        run = self.training_run.tracked or TrackedRun("acoustic-kd", name.replace(" ", "-"))
        return Tracker(kind, run, self.directory / RUN_ID, self.state.total_steps)

    def _write_model(self, keep_checkpoint: bool) -> None:
        write_jsonl(self.directory / "metrics.jsonl", self.state.history)
        for network in self._trained.values():
            network.load_state_dict(self.best_weights)
        made = self._network, self._description()
        finish = self.training_run.finish
        save_model(self.directory, *(made if finish is None else finish(*made)))
        if not keep_checkpoint:
            self.checkpoint.unlink(missing_ok=True)
        (self.directory / RUN_ID).unlink(missing_ok=True)

    def _choose_num_chunks(self) -> None:
        """Set the number of chunks of an epoch: the checkpoint's, or else chosen by memory."""
        if not self.state.chunks:
            config = self.training_run.train
            # Gradients, two moments and the best weights are allocated later, and the logits.
            later = 16 * self.parameters + 2 * int(1e6 * config.max_logits_mb)
            memory = memory_budget(self.device, config.memory_gb, later, self.sharers)
            needed = torch.tensor([self.loader.min_chunks(memory)], device=self.device)
            self.state.chunks = int(self.accelerator.gather(needed).max())
        self.loader.num_chunks = self.state.chunks
        if self.state.chunks > 1 and self.accelerator.is_main_process:
            name, chunks = self.training_run.name, self.state.chunks
            print(f"  {name}: an epoch is read in {chunks} chunks", flush=True)

    def _epoch(self) -> None:
        """Train the rest of an epoch, and measure the frames of dev.

        Raises:
            Stopped: this process, or another one, was asked to end; a checkpoint is written.
        """
        state, config = self.state, self.training_run.train
        epoch = self.loader.plan(state.epoch)
        self.model.train()
        with self.meter.epoch(epoch.frames):
            for batch, size in self.loader.batches(epoch, state.step):
                loss = self._step(batch, size, epoch.steps)
                self.meter.add(loss, size, epoch.steps)
                stop = self._stop(state.step == epoch.steps)
                every = state.step % config.checkpoint_steps == 0
                if stop or (every and self._checkpoint_is_due()):
                    self.meter.update_state()
                    self._save()
                if stop:
                    self.accelerator.wait_for_everyone()  # no process ends while others need it
                    raise Stopped
            self.meter.update_state()
        self.meter.log_epoch(epoch.frames, None if self.dev_windows is None else self.evaluate())
        by_dev = config.schedule == "dev"
        if update_from_dev(state, config) if by_dev else state.epoch + 1 == config.epochs:
            weights = self._result.state_dict()
            self.best_weights = {key: t.detach().cpu().clone() for key, t in weights.items()}
        state.end_epoch()

    def _step(self, batch: Tensor, size: int, steps: int) -> Tensor:
        """Make one of the `steps` steps of an epoch.

        Args:
            batch: int64, on the device, the frames that this process trains on, of `size` of all
                processes.

        Returns:
            The loss summed over the frames of this process.
        """
        state, config = self.state, self.training_run.train
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        dropout_seed = seed_of("dropout", self.training_run.seed, state.epoch, state.step, rank)
        seed_generator(self.device, dropout_seed)
        state.rate = rate_of_step(state, config, steps)
        for group in self.optimizer.param_groups:
            group["lr"] = warmed_up(state, config, state.total_steps + 1)
        # As many on every process: batch normalisation exchanges sums in each.
        parts = -(-size // (world * self.micro_batch_frames))
        micro_batches = batch.tensor_split(parts)
        losses = []
        for number, frames in enumerate(micro_batches, start=1):
            # Gradients add up here; the processes exchange them once a step.
            local = number < len(micro_batches) and world > 1
            with self.accelerator.no_sync(self.model) if local else nullcontext():
                loss = self._loss(frames)
                # Processes' gradients are averaged, so each scales up by their number.
                (loss * (world / size)).backward()
            losses.append(loss.detach())
        if config.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), config.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if config.max_norm is not None:
            limit_norms(self._network, config.max_norm)
        if self.average is not None:
            self.average.update(self._network, first=state.total_steps == 0)
        state.step += 1
        state.total_steps += 1
        return torch.stack(losses).sum()

    def _loss(self, frames: Tensor) -> Tensor:
        """The loss summed over frames with numbers `frames`, int64 [B]; float32."""
        windows = self.augment(self.loader.windows(frames))
        logits = forward(self.model, windows, self.bfloat16)
        if self.training_run.loss is not None:
            return loss_of_run(self.training_run, logits, self.loader, frames)
        hard = None if self.loader.hard is None else self.loader.hard[frames]
        if self.loader.soft is None:
            return fused_loss(logits, None, hard)
        classes, probabilities = self.loader.soft.batch(frames)
        weight, temperature = self.training_run.hard_weight, self.loader.soft.temperature
        return fused_loss(logits, probabilities, hard, temperature, weight, classes)

    def _stop(self, last: bool) -> bool:
        """Whether a process was asked to end; all processes agree, at the same step.

        Args:
            last: whether the epoch's last step has been made.
        """
        if self.accelerator.num_processes == 1:
            return self._stop_requested()
        if self.state.step % STOP_CHECK_STEPS and not last:
            return False
        requested = torch.tensor(float(self._stop_requested()), device=self.device)
        return bool(self.accelerator.reduce(requested, "sum"))

    def evaluate(self) -> tuple[float, float]:
        """Cross-entropy and frame accuracy (percent) on dev; each frame counts once."""
        if self.dev_windows is None or self.dev_targets is None:
            raise ValueError("there are no dev frames")
        model = self._result.eval()
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        total = len(self.dev_targets)
        frames = torch.arange(total, device=self.device)[rank::world]
        limit = self.micro_batch_frames
        sums = sum_errors(model, self.dev_windows, self.dev_targets, frames, self.bfloat16, limit)
        loss, correct = self.accelerator.reduce(sums, "sum").tolist()
        return loss / total, 100 * correct / total

    def _description(self) -> dict[str, Any]:
        settings = settings_of(self.training_run.model)
        if self.given:  # an object of a class whose arguments are not known
            kind = type(self._network)
            settings |= {"class": f"{kind.__module__}:{kind.__qualname__}", "args": None}
        return {
            "name": self.training_run.name,
            "model": settings,
            "dimension": self.dimension,
            "classes": self.classes.count,
            "inventory": self.classes.inventory,
            "parameters": self.parameters,
            "seed": self.training_run.seed,
            "bfloat16": self.bfloat16,
            "chunks": self.state.chunks,
            "best_dev_frame_accuracy": self.state.best if self.state.best >= 0 else None,
            "digest": self.training_run.digest,
        } | ({"object": True} if self.given else {})

    def _checkpoint_is_due(self, min_seconds: float = 0.0) -> bool:
        """Whether enough time has passed since the last checkpoint; the first process decides."""
        seconds = max(min_seconds, self.save_seconds / CHECKPOINT_SHARE)
        return from_first(self.accelerator, lambda: time.monotonic() - self.saved >= seconds)

    def _save(self) -> None:
        begun = time.monotonic()
        if self.accelerator.is_main_process:
            run = self.state, self._trained, self.optimizer, self.best_weights
            save_checkpoint(self.checkpoint, self.training_run.digest, *run)
            write_jsonl(self.directory / "metrics.jsonl", self.state.history)
        self.saved = time.monotonic()
        self.save_seconds = self.saved - begun

    def _resume(self) -> None:
        machine = {
            "device": self.device.type,
            "processes": self.accelerator.num_processes,
            "torch": str(torch.__version__),
        }
        if resumed := self._resumed:
            self.best_weights = resumed.restore(self._trained, self.optimizer)
            differences = changes(self.state.machine, machine, neutral=machine)
            text = "; ".join(f"{what} {old}, now {new}" for what, old, new in differences)
            if text and self.accelerator.is_main_process:
                name = self.training_run.name
                print(f"  {name}: resumes with other rounding (before: {text})", flush=True)
            self._resumed = None
        self.state.machine = machine
        if self.accelerator.num_processes > 1:
            shape = 1, window_frames(self.training_run.model), self.dimension
            windows = torch.zeros(shape, dtype=dtype_of(self.bfloat16), device=self.device)
            settle_buckets(self.model, lambda model: forward(model, windows, self.bfloat16))
            self.optimizer.zero_grad()


def _check_frames(
    settings: TrainConfig, data: InMemoryData | ShardedData, dev: Frames | None
) -> None:
    """Raise a UserError for frames that lack the targets that they need."""
    if not data.learnable:
        raise UserError("training without soft targets needs transcribed frames")
    if dev is None and settings.schedule == "dev":
        raise UserError("train.schedule=dev needs dev frames, and there are none")
    if dev is not None and not dev.transcribed:
        raise UserError("the dev frames have no targets; they steer the learning rate")
