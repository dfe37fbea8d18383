"""Steps: up to date, stale, unfinished; the mark of completion is written last."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from acoustic_kd.system.errors import UserError
from acoustic_kd.system.records import read_done, read_record, verify_files
from acoustic_kd.system.steps import Step, require_done


@pytest.fixture
def work(tmp_path):
    return Step("bake", tmp_path / "bake", {"oven.heat": 200}, {"dough": "d1"})


def make(work, files=("bread",)):
    with work.run():
        for name in files:
            (work.directory / name).write_text(str(work.settings))


class Killed(BaseException):
    pass


def start(work, files=("half",)):
    """Begin and be killed."""
    with pytest.raises(Killed), work.run():
        for name in files:
            (work.directory / name).write_text("half")
        raise Killed


def test_a_file_that_resumes_the_work_stays_until_all_is_recorded(work, monkeypatch):
    work = replace(work, scratch="half")

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Step, "_files", killed)
        make(work, ["bread", "half"])
    assert (work.directory / "half").exists() and not work.is_current()
    make(work)
    assert work.is_current() and not (work.directory / "half").exists()
    assert list(read_done(work.directory)["files"]) == ["bread"]


def test_seconds_of_interrupted_runs_are_counted(work, monkeypatch):
    clock = iter([100.0, 107.0, 200.0, 205.0, 300.0, 302.0, 400.0, 401.0])
    monkeypatch.setattr(
        "acoustic_kd.system.steps.time", SimpleNamespace(monotonic=lambda: next(clock))
    )
    start(work)
    start(work)
    make(work)
    assert read_done(work.directory)["seconds"] == 7 + 5 + 2
    (work.directory / "bread").unlink()
    make(work)  # counted from zero
    assert read_done(work.directory)["seconds"] == 1


def contents(work):
    return sorted(path.name for path in work.directory.iterdir())


def test_a_finished_step_is_up_to_date(work):
    assert not work.is_current() and not work.directory.exists()
    make(work)
    assert work.is_current()
    done = read_done(work.directory)
    assert done["settings"] == work.settings and done["inputs"] == work.inputs
    assert done["digest"] == work.digest and done["seconds"] >= 0


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"oven.heat": 180}},
        {"settings": {"oven.heat": 200, "oven.steam": True}},
        {"inputs": {"dough": "d2"}},
        {"inputs": {"dough": "d1", "salt": "s"}},
        {"name": "fry"},
    ],
)
def test_other_settings_or_inputs_are_stale_and_clear_the_old_output(work, change):
    make(work, ("bread", "crumbs"))
    other = replace(work, **change)
    assert other.digest != work.digest and not other.is_current()
    make(other, ("cake",))
    assert other.is_current() and not work.is_current()
    assert contents(other) == ["cake", "done.json", "started.json"]


def test_it_says_why_it_is_out_of_date(work):
    work = replace(work, settings={"oven.heat": 200, "sizes": (1, 2)})
    assert work.why_out_of_date() == "no output yet"
    start(work)
    assert work.why_out_of_date() == "interrupted; would resume"
    make(work)
    assert work.why_out_of_date() == ""
    assert replace(
        work, settings={"oven.heat": 180, "sizes": (1, 2), "steam": True}
    ).why_out_of_date() == ("oven.heat was 200, now it is 180; steam was null, now it is true")
    assert replace(work, inputs={"dough": "d2"}).why_out_of_date() == "'dough' has changed"
    assert replace(work, name="fry").why_out_of_date() == "'bake' was made in this directory"
    (work.directory / "bread").write_text("crumbs")
    assert work.why_out_of_date() == f"{work.directory / 'bread'} is missing or was changed"


def test_the_digest_does_not_depend_on_the_order_or_the_place(work, tmp_path):
    work = replace(work, settings={"a": 1, "b": [1, 2]})
    assert replace(work, settings={"b": [1, 2], "a": 1}).digest == work.digest
    assert replace(work, directory=tmp_path / "elsewhere").digest == work.digest


def test_the_same_step_resumes_from_its_files(work):
    start(work, ("first", "second"))
    assert not work.is_current()
    with work.run():
        assert {"first", "second"} <= set(contents(work))
    assert work.is_current()


def test_finished_output_is_cleared_even_if_other_settings_were_started_since(work):
    make(work)
    other = replace(work, settings={"oven.heat": 180})
    start(other)
    with work.run():
        assert contents(work) == ["started.json"]


@pytest.mark.parametrize("call", range(1, 5))
def test_a_clearing_that_is_killed_is_repeated(work, monkeypatch, call):
    make(work, ("a", "b", "c"))
    other = replace(work, settings={"oven.heat": 180})
    unlink, calls = Path.unlink, iter(range(1, 100))

    def dying(path, missing_ok=False):
        if next(calls) == call:
            raise Killed
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", dying)
    with pytest.raises(Killed), other.run():
        pass
    monkeypatch.undo()
    assert len(contents(work)) > 1 and not other.is_current()
    with other.run():
        assert contents(other) == ["started.json"]


def test_a_directory_that_is_a_link_to_another_disk_stays_one(work, tmp_path):
    (tmp_path / "disk").mkdir()
    work.directory.symlink_to(tmp_path / "disk")
    make(work)
    other = replace(work, settings={"oven.heat": 180})
    make(other, ("cake",))
    assert other.directory.is_symlink() and other.is_current()
    assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == contents(other)
    assert contents(other) == ["cake", "done.json", "started.json"]


def test_a_step_that_holds_smaller_steps_is_not_cleared(work):
    work = replace(work, whole=False)
    make(work, ("a", "b"))
    other = replace(work, settings={"oven.heat": 180})
    with other.run():
        assert contents(other) == ["a", "b", "started.json"]
    assert other.is_current()


def test_done_is_written_last_and_deleted_first(work):
    make(work)
    with pytest.raises(Killed), work.run():
        assert not (work.directory / "done.json").exists()
        raise Killed
    assert not work.is_current() and read_done(work.directory) is None
    assert json.loads((work.directory / "started.json").read_text())["digest"] == work.digest


def test_half_written_files_of_a_killed_process_are_swept(work):
    start(work, (".shard-00000.h5.4711.tmp", "shard-00001.h5"))
    (work.directory / "sub").mkdir()
    (work.directory / "sub" / ".x.wav.4711.tmp").write_text("half")
    with work.run():
        assert contents(work) == ["shard-00001.h5", "started.json", "sub"]
        assert list((work.directory / "sub").iterdir()) == []


def test_runs_that_share_a_step_clear_nothing_of_one_another(work):
    (work.directory / "old.txt").parent.mkdir(parents=True, exist_ok=True)
    other = replace(work, settings={"other": 1})
    with other.run():
        (work.directory / "old.txt").write_text("old")
    with pytest.raises(UserError, match="other runs work here with other settings"):
        work.join_running(alone=False)
    assert (work.directory / "old.txt").exists() and other.is_current()
    work.join_running(alone=True)
    assert not (work.directory / "old.txt").exists() and not other.is_current()
    half_written = work.directory / ".new.txt.1.tmp"
    half_written.write_text("ha")
    work.join_running(alone=False)
    assert half_written.exists() and not work.is_current()


def test_one_of_several_processes_marks_the_step_done(work):
    with work.run(main=False):
        pass
    assert not work.directory.exists()


def test_a_lost_or_cut_file_makes_a_step_stale(work, tmp_path):
    beside = tmp_path / "results.json"
    work = replace(work, beside=(beside,))
    beside.write_text("{}")
    make(work, ("bread", "crumbs"))
    assert work.is_current()
    for path in (work.directory / "crumbs", beside):
        text = path.read_text()
        path.write_text(text[:-1])
        assert not work.is_current()
        path.unlink()
        assert not work.is_current()
        path.write_text(text)
        assert work.is_current()
    (work.directory / "note").write_text("of the user's own")
    assert work.is_current()


def test_reading_an_unfinished_step_says_what_to_run(work):
    for begin in (lambda: None, lambda: start(work)):
        begin()
        with pytest.raises(UserError, match="'bake' is not done yet; run stage 3 first"):
            require_done(work.directory, "bake", work.settings, "stage 3")


def test_reading_a_step_of_other_settings_names_both_values(work):
    make(work)
    assert require_done(work.directory, "bake", work.settings, "stage 3")["digest"] == work.digest
    with pytest.raises(UserError, match="oven.heat=200, now it is 180; run stage 3 again"):
        require_done(work.directory, "bake", {"oven.heat": 180}, "stage 3")
    with pytest.raises(UserError, match="oven.steam=None, now it is True"):
        require_done(work.directory, "bake", work.settings | {"oven.steam": True}, "stage 3")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '{"digest": 3}', "\x00"])
@pytest.mark.parametrize("name", ["done.json", "started.json"])
def test_a_damaged_record_is_no_record_of_its_step(work, name, text):
    make(work)
    (work.directory / name).write_text(text)
    assert work.is_current() == (name == "started.json")
    if name == "done.json":
        with pytest.raises(UserError, match=f"{name}: damaged; delete it and run stage 3 again"):
            require_done(work.directory, "bake", work.settings, "stage 3")
    make(work)
    assert work.is_current()


def test_a_record_without_a_setting_that_is_null_now_is_stale(tmp_path):
    """As where the setting is new."""
    before = Step("bake", tmp_path, {"oven.heat": 180}, {})
    with before.run():
        pass
    now = Step("bake", tmp_path, {"oven.heat": 180, "oven.fan": None}, {})
    assert now.why_out_of_date() == "its record has other settings"
    with pytest.raises(UserError, match="oven.fan=None, now it is None; run stage 3 again"):
        require_done(tmp_path, "bake", now.settings, "stage 3")


# --- check sums ---------------------------------------------------------------------------------


def damage(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_file_of_the_right_size_with_other_content_is_found(work, tmp_path):
    beside = tmp_path / "results.json"
    beside.write_text("{}")
    work = replace(work, beside=(beside,))
    make(work, ("bread", "crumbs"))
    verify_files(work.directory)
    for path in (work.directory / "bread", beside):
        whole = path.read_bytes()
        damage(path)
        assert work.is_current()  # looking at sizes is enough to decide whether to run
        with pytest.raises(UserError, match=f"{path}: damaged or changed .*; delete it and run"):
            verify_files(work.directory)
        verify_files(work.directory, ("crumbs",))
        path.write_bytes(whole)
    (work.directory / "crumbs").unlink()
    with pytest.raises(UserError, match="crumbs: is missing; run stage 7 again"):
        verify_files(work.directory, how="stage 7")
    verify_files(work.directory, missing=True)


def test_a_file_is_compared_once(work):
    make(work)
    known = set()
    verify_files(work.directory, known=known)
    damage(work.directory / "bread")
    verify_files(work.directory, known=known)
    with pytest.raises(UserError):
        verify_files(work.directory)


def test_damage_between_a_smaller_step_and_the_larger_one_is_found(work):
    """The larger step does not take damaged content for its own."""
    smaller = replace(work, directory=work.directory / "01")
    with replace(work, whole=False).run():
        make(smaller)
        damage(smaller.directory / "bread")
    for directory in (work.directory, smaller.directory):
        with pytest.raises(UserError, match="01/bread: damaged"):
            verify_files(directory)


def test_files_with_check_sums_of_their_own_are_not_read(work):
    work = replace(work, own_checks="shard-*.h5")
    make(work, ("shard-1.h5", "shard-1.json"))
    assert list(read_done(work.directory)["sha256"]) == ["shard-1.json"]
    damage(work.directory / "shard-1.h5")
    verify_files(work.directory)


@pytest.mark.parametrize("name", ["done.json", "started.json"])
def test_every_bit_of_a_record_is_guarded(work, name):
    make(work)
    path = work.directory / name
    whole, record = path.read_bytes(), read_record(path)
    check = whole.find(b'"check"')
    for place in (*range(0, len(whole), 11), *range(check, check + 7)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert read_record(path) in (None, record)  # another white space changes nothing
    path.write_bytes(whole)
    assert work.is_current()
