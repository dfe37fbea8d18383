"""Work over processes and threads: results in order, and an end after every kind of error."""

import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest
import waiting
from waiting import PATIENCE, wait_until

from acoustic_kd.system.errors import UserError
from acoustic_kd.system.parallel import (
    Task,
    cores,
    defer_ctrl_c,
    map_ordered,
    prefetch,
    run_behind,
    run_tasks,
    worker_map,
)


def offset(value):
    """The state of a process: an offset, and which process made it."""
    return value, os.getpid()


def no_offset():
    raise UserError("the state cannot be made")


def shifted(state, number):
    time.sleep(0.002 * (number % 3))
    value, process = state
    assert process == os.getpid()
    return number + value, process


def dies(number):
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def fails(number):
    if number == 5:
        raise UserError(f"number {number} is no good")
    return number


def sleeps(number):
    time.sleep(0.2)
    return number


def test_one_process_is_this_one():
    results = list(map_ordered(shifted, range(5), "", jobs=1, state=partial(offset, 100)))
    assert results == [(100 + n, os.getpid()) for n in range(5)]
    assert list(map_ordered(fails, [], "", jobs=4)) == []
    assert list(map_ordered(fails, iter([]), "", 0, 4)) == []
    assert cores() >= 1


def test_one_process_reads_items_as_they_are_used():
    taken = []
    items = (taken.append(n) or n for n in range(1000))
    results = map_ordered(shifted, items, "", 1000, 1, partial(offset, 100))
    assert [next(results)[0] for _ in range(3)] == [100, 101, 102]
    assert taken == [0, 1, 2]


@pytest.mark.slow
def test_several_calls_in_the_same_processes_are_in_order_and_read_a_little_ahead():
    taken, processes = [], set()
    with worker_map(50, 2, partial(offset, 1000), ahead=4) as over:
        for _ in range(2):
            taken.clear()
            results = over(shifted, (taken.append(n) or n for n in range(50)))
            assert next(results)[0] == 1000 and len(taken) <= 8
            numbers, pids = zip(*results, strict=True)
            assert numbers == tuple(range(1001, 1050))
            processes.update(pids)
    assert len(processes) <= 2 and os.getpid() not in processes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "state", "message"),
    [
        (fails, None, "^number 5 is no good$"),
        (fails, no_offset, "^the state cannot be made$"),
        (dies, None, "a worker process died, perhaps for lack of memory"),
    ],
)
def test_an_error_in_a_process_and_its_death_end_the_work(function, state, message):
    with pytest.raises(UserError, match=message):
        list(map_ordered(function, range(50), "", jobs=2, state=state))


PROGRAM = """
import sys
sys.path[:0] = {tests!r}
from test_parallel import map_ordered, sleeps
if __name__ == "__main__":
    try:
        for number in map_ordered(sleeps, range(1000), "", jobs=2):
            print(number, flush=True)
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "early"),
    [(signal.SIGINT, True), (signal.SIGINT, False), (signal.SIGKILL, False)],
)
def test_all_processes_end_with_the_first_without_output(tmp_path, number, early):
    program = tmp_path / "program.py"
    program.write_text(
        PROGRAM.format(tests=[str(Path(file).parent) for file in (__file__, waiting.__file__)])
    )
    process = subprocess.Popen(
        [sys.executable, program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    if early:  # while the workers are starting
        wait_until(lambda: len(group(process.pid)) >= 3)
    else:
        assert process.stdout.readline() == "0\n"
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        os.kill(process.pid, number)
    _, error = process.communicate(timeout=PATIENCE)  # all of them hold its ends
    if number == signal.SIGINT:
        assert (process.returncode, error) == (130, "")
    else:
        assert process.returncode == -number
    wait_until(lambda: not group(process.pid))


def test_an_interrupt_waits_until_the_processes_are_started():
    """An earlier thread does not block the signal, so Python receives it in this one."""
    ready = threading.Event()
    thread = threading.Thread(target=ready.wait)
    thread.start()
    continued = []
    try:
        with pytest.raises(KeyboardInterrupt), defer_ctrl_c():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
            continued.append(True)
        assert continued
    finally:
        ready.set()
        thread.join()
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_tasks_wait_for_others_and_the_costliest_chain_is_first():
    tasks = [
        Task("short", shifted, (1,), cost=3),
        Task("long", shifted, (2,), cost=2),
        Task("after long", shifted, (3,), ("long",), cost=5),
        Task("last", shifted, (4,), ("short", "after long"), cost=1),
    ]
    found = [(task.name, result[0]) for task, result in run_tasks(tasks, 1, partial(offset, 10))]
    assert found == [("long", 12), ("after long", 13), ("short", 11), ("last", 14)]
    results = [result for _, result in run_tasks(tasks, 2, partial(offset, 0))]
    assert sorted(number for number, _ in results) == [1, 2, 3, 4]
    assert list(run_tasks([], 2)) == []


def test_a_task_that_fails_ends_the_others():
    tasks = [Task(str(n), fails, (n,)) for n in range(4, 8)]
    with pytest.raises(UserError, match="number 5 is no good"):
        list(run_tasks(tasks, 2))


def group(leader):
    """The processes of a session that run."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(int(folder.name))
    return found


def making(count, log, fails_at=None):
    for number in range(count):
        if number == fails_at:
            raise UserError(f"number {number} is no good")
        log.append((number, threading.get_ident()))
        yield number


def test_prefetch_makes_one_item_ahead_in_a_thread():
    log, threads = [], threading.active_count()
    for number in prefetch(making(5, log)):
        wait_until(lambda n=number: len(log) == min(n + 2, 5))  # the next one, while this is used
        time.sleep(0.01)
        assert len(log) == min(number + 2, 5)
    assert [n for n, _ in log] == list(range(5)) and number == 4
    assert threading.get_ident() not in {thread for _, thread in log}
    assert threading.active_count() == threads
    assert list(prefetch([])) == []


def test_prefetch_raises_an_error_at_its_item():
    found = []
    with pytest.raises(UserError, match="^number 2 is no good$"):
        for number in prefetch(making(5, [], fails_at=2)):
            found.append(number)
    assert found == [0, 1]


def test_prefetch_stops_with_its_user():
    log, threads = [], threading.active_count()
    items = prefetch(making(1000, log))
    assert next(items) == 0
    items.close()
    assert len(log) <= 2 and threading.active_count() == threads


def test_run_behind_uses_an_item_while_the_next_is_made():
    used, next_is_made, threads = [], threading.Event(), threading.active_count()

    def use(number):
        assert number == 4 or next_is_made.wait(PATIENCE)
        next_is_made.clear()
        used.append((number, threading.get_ident()))

    def made():
        for number in range(5):
            if number:
                next_is_made.set()
            yield number
            assert len(used) in (number - 1, number, number + 1)

    run_behind(use, made())
    assert [n for n, _ in used] == list(range(5)) and len({thread for _, thread in used}) == 1
    assert used[0][1] != threading.get_ident() and threading.active_count() == threads
    run_behind(use, [])


def test_an_error_of_either_side_ends_run_behind():
    used, made = [], []
    with pytest.raises(UserError, match="^number 3 is no good$"):
        run_behind(used.append, making(9, [], fails_at=3))
    assert used == [0, 1, 2]
    with pytest.raises(UserError, match="^number 5 is no good$"):
        run_behind(fails, making(100, made))
    assert len(made) <= 7  # the one it waits for, and the next


def test_ctrl_c_ends_the_thread_too():
    threads, used = threading.active_count(), []

    def use(number):
        used.append(number)
        if number == 1:
            os.kill(os.getpid(), signal.SIGINT)

    for wait in (lambda: run_behind(use, range(50)), lambda: [*prefetch(map(use, range(50)))]):
        used.clear()
        with pytest.raises(KeyboardInterrupt):
            wait()
        assert 2 <= len(used) <= 4 and threading.active_count() == threads
