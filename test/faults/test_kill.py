"""The daemon, killed at random moments under QoS 1 and QoS 2 load (rounds.py), judged by what its clients saw (checker.py).

The seeds are the same in every run, but not the moments: those are up to the machine. `make faults` plays others."""

import pytest

from bramble import SANITIZED
from rounds import play

SEEDS = range(3 if SANITIZED else 5)


@pytest.mark.parametrize("seed", SEEDS)
def test_kill(tmp_path, seed):
    problem, checker = play(tmp_path, seed, rounds=4, load=0.7)
    print(checker.summary())
    if problem:
        pytest.fail(problem, pytrace=False)
    assert checker.counts["kills"] and checker.counts["arrived"] and checker.counts["looks"]
