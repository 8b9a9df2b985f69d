"""The model must be able to fail: every fault planted into the daemon is found, and without one nothing is."""

import pytest

from planted import CONFIGURED, FAULTS, Fault, planted
from script import generate
from sequences import Ground

MOST = 300  # sequences until a fault must be found; most take a handful


def found(tmp_path, pki, broker_class, patience, most):
    """(number of sequences until something was wrong, what it was), or (most, None)."""
    ground = Ground(tmp_path, pki, broker_class)
    try:
        for seed in range(most):
            wrong, _ = ground.play(generate(f"planted {seed}"), patience=patience)
            if wrong:
                return seed + 1, wrong
        return most, None
    finally:
        ground.stop()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_fault_is_found(tmp_path, pki, fault):
    count, wrong = found(tmp_path, pki, planted(fault), getattr(fault, "patience", 20), MOST)
    assert wrong, f"not found in {MOST} sequences"
    print(f"found by sequence {count}: {wrong}")
    # whichever comes first: what gets lost may be a message that is retained, or may have been one
    assert wrong.kind in fault.kinds or (wrong.kind == "retained" and "missing" in fault.kinds), wrong


@pytest.mark.parametrize("config", CONFIGURED, ids=lambda config: config.replace(" ", "-").strip())
def test_other_configuration_is_found(tmp_path, pki, config):
    count, wrong = found(tmp_path, pki, planted(more=config), 20, MOST)
    assert wrong, f"not found in {MOST} sequences"
    print(f"found by sequence {count}: {wrong}")
    assert wrong.kind in CONFIGURED[config], wrong


def test_nothing_is_found_without_a_fault(tmp_path, pki):
    count, wrong = found(tmp_path, pki, planted(Fault), 20, 60)
    assert not wrong, f"sequence {count}: {wrong}"
