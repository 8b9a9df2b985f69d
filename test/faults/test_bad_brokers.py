"""Real runs against a broker that makes one mistake: the checker must report each; and against the same broker without a
mistake: it must report nothing. So the clients and the checker are known to be honest before the daemon is looked at."""

import os

import pytest

from bad_broker import MISTAKES
from rounds import play, small

SHORT = ("ack-before-commit", "reuse-id", "early-pubrel")
MOST = 12  # runs until a mistake must be found; most take one or two


@pytest.mark.parametrize("mistake", MISTAKES if os.environ.get("FAULTS_LONG") else SHORT)
def test_mistake_is_found(tmp_path, mistake):
    kinds = set()
    for seed in range(MOST):
        problem, checker = play(tmp_path, seed, small(mistake), rounds=3, load=0.5, patience=1)
        assert checker.counts["kills"], problem
        kinds |= checker.kinds
        if MISTAKES[mistake] in kinds:
            print(f"found by run {seed + 1}: {problem}")
            return
    pytest.fail(f"{mistake} was not found in {MOST} runs; only {kinds}")


def test_nothing_is_found_without_a_mistake(tmp_path):
    owed = 0
    for seed in range(2):
        problem, checker = play(tmp_path, seed, small(), rounds=4, load=0.6)
        assert not problem, problem
        assert checker.counts["acknowledged"] and checker.counts["looks"]
        owed += checker.counts["owed at kills"]
    assert owed > 100, "a kill that takes nothing shows nothing"
