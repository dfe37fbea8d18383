"""Trackers: what they get of a training, and that neither they nor log lines change it."""

import re
import sys
from contextlib import closing
from dataclasses import replace

import pytest
from accelerate import tracking as accelerate_tracking
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from kills import killed_at
from tiny_training import TRAIN, trainer, weights

from acoustic_kd.settings import Config, all_settings, choices
from acoustic_kd.system.errors import UserError
from acoustic_kd.training.tracking import ADD_REPORT, TrackedRun, Tracker

LOGGED = replace(TRAIN, log_steps=5, checkpoint_steps=3)  # epochs have 13 steps
STEPS = [5, 10, 18, 23, 31, 36]  # 5 and 10 of each epoch
SETTINGS = all_settings(Config())
EVERY_STEP = ("train_step_loss", "learning_rate", "frames_per_second")


def tracked(folder, kind, train=LOGGED, **options):
    """A trainer in `folder`/model whose run is member-01 in `folder`/logs."""
    subject = trainer(folder / "model", train=replace(train, tracker=kind), **options)
    run = TrackedRun("an4", "member-01", "members", SETTINGS, folder / "logs")
    subject.training_run = replace(subject.training_run, tracked=run)
    return subject


def scalars(folder):
    """Tag → (step, value) of each event that TensorBoard shows."""
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulators.EventAccumulator(str(folder)).Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_the_trackers_are_accelerate_s():
    builtin = {name for name, cls in LOGGER_TYPE_TO_CLASS.items()
               if cls.__module__ == accelerate_tracking.__name__}  # fmt: skip
    assert set(choices("train.tracker")) == builtin == set(ADD_REPORT)


def test_without_a_tracker_nothing_is_written(tmp_path):
    with closing(Tracker(None, TrackedRun("an4", "run", folder=tmp_path), tmp_path / "id")) as none:
        none.log({"loss": 1.0}, 1)
        none.add_report(tmp_path / "report.html", "# Results")
    assert not list(tmp_path.iterdir())


# --- TensorBoard --------------------------------------------------------------------------------


def test_tensorboard_has_settings_steps_and_epochs_of_a_model(tmp_path):
    history = tracked(tmp_path, "tensorboard").run()
    shown = scalars(tmp_path / "logs" / "member-01")
    for name in ("train_loss", "dev_loss", "dev_frame_accuracy"):
        expected = [(13 * row["epoch"], pytest.approx(row[name], rel=1e-6)) for row in history]
        assert shown[name] == expected
    assert [step for step, _ in shown["train_step_loss"]] == STEPS
    assert [step for step, _ in shown["learning_rate"]] == sorted([*STEPS, 13, 26, 39])
    (written,) = (tmp_path / "logs" / "member-01").glob("*/hparams.yml")
    assert "model.layers: 4\n" in written.read_text() and "lm.arpa: 'null'" in written.read_text()


def test_the_loss_of_all_steps_is_that_of_the_epoch(tmp_path):
    """Checkpoints in between change nothing."""
    tracked(tmp_path, "tensorboard", replace(LOGGED, log_steps=13)).run()
    shown = scalars(tmp_path / "logs" / "member-01")
    steps, epochs = (dict(shown[tag]) for tag in ("train_step_loss", "train_loss"))
    assert steps == pytest.approx(epochs, rel=1e-6)


def test_a_killed_run_continues_in_the_same_run(tmp_path):
    """Steps between the checkpoint and the kill are shown once."""
    with killed_at(25):  # the checkpoint has 22 steps
        tracked(tmp_path / "killed", "tensorboard").run()
    for name in ("killed", "whole"):
        tracked(tmp_path / name, "tensorboard").run()
    killed, whole = (scalars(tmp_path / name / "logs/member-01") for name in ("killed", "whole"))
    for tag in ("train_loss", "dev_loss", "dev_frame_accuracy"):
        assert killed[tag] == whole[tag]
    assert [step for step, _ in killed["train_step_loss"]] == STEPS
    assert len(list((tmp_path / "killed/logs/member-01").glob("*/hparams.yml"))) == 1


def test_trackers_and_log_lines_do_not_change_the_model(tmp_path):
    plain = trainer(tmp_path / "plain", soft=True)
    logged = tracked(tmp_path, "tensorboard", replace(TRAIN, log_steps=1), soft=True)
    for row, expected in zip(logged.run(), plain.run(), strict=True):
        assert row | {"frames_per_second": 0} == expected | {"frames_per_second": 0}
    assert weights(tmp_path / "model") == weights(tmp_path / "plain")


# --- other trackers -----------------------------------------------------------------------------


class Recorder(GeneralTracker):
    """Stands where wandb's tracker does, which needs an account, and keeps what it is given."""

    name, requires_logging_directory, id = "wandb", False, "r7"

    def __init__(self, title, **arguments):
        super().__init__()
        self.given = (title, arguments)

    tracker = property(lambda self: self)

    def start(self):
        RECORDED.append(self)
        self.attempt("start")

    def attempt(self, action):
        if action == FAILS:
            raise ConnectionError("no server\nin a net of no name")

    def log(self, values, step=None, **options):
        self.attempt("log")

    def finish(self):
        self.attempt("finish")


RECORDED: list[Recorder] = []
FAILS = ""


@pytest.fixture
def fails(monkeypatch):
    """fails(action) → the tracker cannot do so; "": it can do all."""

    def set_up(action):
        RECORDED.clear()
        monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "wandb", Recorder)
        monkeypatch.setattr(sys.modules[__name__], "FAILS", action)

    return set_up


def test_a_killed_run_continues_by_the_id_that_the_tracker_gave(tmp_path, fails):
    fails("")
    with killed_at(3):  # before the first checkpoint
        tracked(tmp_path, "wandb").run()
    tracked(tmp_path, "wandb").run()
    tracked(tmp_path, "wandb").run()
    shown = {"name": "member-01", "group": "members"}
    never, again = {"id": None, "resume": "never"}, {"id": "r7", "resume": "allow"}
    expected = [("an4", shown | resumed) for resumed in (never, again, never)]
    assert [tracker.given for tracker in RECORDED] == expected


def test_an_id_of_another_tracker_is_not_used(tmp_path, fails):
    fails("")
    (tmp_path / "id").write_text("mlflow 0329cee")
    Tracker("wandb", TrackedRun("an4", "run", folder=tmp_path), tmp_path / "id")
    assert RECORDED[0].given[1]["id"] is None and (tmp_path / "id").read_text() == "wandb r7"


def test_a_tracker_that_cannot_start_ends_the_run_before_it_trains(tmp_path, fails):
    fails("start")
    subject = tracked(tmp_path, "wandb")
    with pytest.raises(UserError, match="is wandb, which cannot start .no server.; log in") as line:
        subject.run()
    assert subject.state.total_steps == 0 and "\n" not in str(line.value)


@pytest.mark.parametrize("action", ["log", "finish"])
def test_training_outlives_a_tracker(tmp_path, fails, capfd, action):
    fails(action)
    tracked(tmp_path, "wandb").run()
    trainer(tmp_path / "plain").run()
    assert weights(tmp_path / "model") == weights(tmp_path / "plain")
    warning = (
        "acoustic-kd: warning: member-01: wandb failed and logs nothing from here on (no server)\n"
    )
    assert capfd.readouterr().err == warning


@pytest.mark.parametrize(
    ("kind", "modules", "install"),
    [
        ("tensorboard", ("torch.utils.tensorboard", "tensorboardX"), r"/checkout\[tensorboard\]'"),
        ("wandb", ("wandb",), "install the package wandb"),
    ],
)
def test_a_tracker_that_is_not_installed(tmp_path, monkeypatch, kind, modules, install):
    for name in modules:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delattr("torch.utils.tensorboard", raising=False)
    with pytest.raises(UserError, match=f"is {kind}, which is not installed: .*{install}"):
        Tracker(kind, TrackedRun("an4", "run", folder=tmp_path), tmp_path / "id")


# --- lines --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("terminal", "report", "lines"), [(False, 1, 6), (False, 2, 0), (True, 1, 0)]
)
def test_a_line_every_few_steps_where_no_progress_bar_is(
    tmp_path, capsys, monkeypatch, terminal, report, lines
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    subject = trainer(tmp_path, train=LOGGED)
    subject.training_run = replace(subject.training_run, report=report)
    subject.run()
    line = r"  test: epoch (\d)/3, step (5|10)/13, loss \d\.\d{4}, rate 0\.003, [\d,]+ frames/s"
    assert len(re.findall(f"^{line}$", capsys.readouterr().out, re.MULTILINE)) == lines


def test_a_file_in_the_place_of_the_logs_is_one_line(tmp_path):
    pytest.importorskip("tensorboard")
    (tmp_path / "logs").write_text("")
    with pytest.raises(UserError, match="is tensorboard, which cannot start .*File exists"):
        tracked(tmp_path, "tensorboard").run()


def test_a_damaged_id_begins_another_run(tmp_path):
    pytest.importorskip("tensorboard")
    run = TrackedRun("an4", "run", folder=tmp_path / "logs")
    (tmp_path / "id").write_bytes(b"\xff\xfe")
    with closing(Tracker("tensorboard", run, tmp_path / "id")):
        assert (tmp_path / "id").read_text().startswith("tensorboard ")
