"""How many threads the acoustic model takes beside the processes that search."""

import pytest
import torch

from acoustic_kd.verbs.decode import MAX_SINGLE_THREAD_WEIGHTS, threads_beside_search


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("parameters", "jobs", "threads"),
    [
        (480_000, 2, 1),
        (MAX_SINGLE_THREAD_WEIGHTS // 2, 2, 4),
        (61_000_000, 16, 4),
        (3_000_000, 16, 4),
    ],
)
def test_a_small_model_leaves_the_cores_to_the_search(four_threads, parameters, jobs, threads):
    with threads_beside_search(parameters, jobs):
        assert torch.get_num_threads() == threads
    assert torch.get_num_threads() == 4


def test_the_threads_come_back_after_an_error(four_threads):
    with pytest.raises(ValueError, match="search"), threads_beside_search(1, 1):
        raise ValueError("search")
    assert torch.get_num_threads() == 4
