"""Random sequences of what clients may do; of what was found before, the scripts; and the tools themselves.

The seeds are the same in every run, so that a failure is somebody's doing. `make soak` plays others."""

from pathlib import Path

import pytest

from bramble import SANITIZED
from client import Wrong
from script import generate, parse, text_of
from sequences import Ground, check_seed, report
from shrink import shrink

COUNT = 400 if SANITIZED else 1200
AT_ONCE = 50
FOUND = sorted((Path(__file__).parent / "found").glob("*.script"))


@pytest.fixture(scope="module")
def ground(tmp_path_factory, pki):
    ground = Ground(tmp_path_factory.mktemp("ground"), pki)
    yield ground
    ground.stop()


@pytest.mark.parametrize("first", range(0, COUNT, AT_ONCE))
def test_sequences(ground, first):
    for seed in range(first, first + AT_ONCE):
        problem = check_seed(ground, seed, seconds=120)
        if problem:
            pytest.fail(problem, pytrace=False)


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.stem)
def test_found_before(ground, path):
    lines = parse(path.read_text())
    for _ in range(5):
        wrong, player = ground.play(lines)
        if wrong:
            pytest.fail(report(path.name, lines, wrong, player), pytrace=False)


def test_a_seed_is_a_script_and_a_script_is_text():
    for seed in range(100):
        lines = generate(seed)
        assert lines == generate(seed)
        assert parse(text_of(lines)) == lines


def test_shrinking_leaves_what_matters():
    """Two lines matter here, and of those only some words."""
    def play(lines):
        text = text_of(lines)
        return Wrong("x", "") if "c1 publish" in text and " retain" in text and "c2 lose" in text else None

    lines = [["config", "max_inflight_messages", "3"], *([["c1", "wait"], ["settle"]] * 30),
             ["c1", "publish", "a/b", "2", "retain", "300"], ["c3", "hold"], ["c2", "lose", "rst", "sent", "40"]]
    short = shrink(lines, "x", play)
    assert short == [["c1", "publish", "a/b", "0", "retain", "8"], ["c2", "lose", "rst"]]
