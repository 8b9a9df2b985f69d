"""The load programs of test/perf: that what they say has happened, has happened. A figure from half a load would pass unnoticed."""

import subprocess
import sys

import pytest

from bramble import TOP

sys.path.insert(0, str(TOP / "test" / "perf"))

import brokers  # noqa: E402


@pytest.fixture(name="program", scope="module")
def _program(tmp_path_factory):
    folder = tmp_path_factory.mktemp("load")
    return lambda name: brokers.load_program(name, str(folder))


def run(*command, lines, status=0):
    done = subprocess.run([str(c) for c in command], input=lines, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status, done.stderr
    return done


def storm_broker(start, users, password="right"):
    broker = start("allow_anonymous false\npassword_file {dir}/passwd\n",
                   files={"passwd": "\n".join(f"u{i}:{password}" for i in range(users))})
    return broker, broker.ports["tcp"]


def test_a_storm_is_of_clients_that_are_in(start, program):
    broker, port = storm_broker(start, 3)
    done = run(program("login_storm"), port, 3, "right", 0, lines="in\nout\nin\n")
    answers = [line.split() for line in done.stdout.splitlines()]
    assert [a[0] for a in answers] == ["in", "out", "in"]
    assert answers[0][2:5] == answers[2][2:5] == ["3", "0", "0"]
    for i in range(3):
        broker.wait_log(f"New client connected from 127.0.1.{i + 1}:[0-9]+ as storm-{i} .*u'u{i}'", 2)


def test_a_storm_with_a_wrong_password_is_no_figure(start, program):
    _, port = storm_broker(start, 3)
    done = run(program("login_storm"), port, 3, "wrong", 0, lines="in\n", status=1)
    assert "CONNECT was answered by 20 02 00 05" in done.stderr
    assert not done.stdout


def test_a_client_that_is_refused_tries_again(start, program):
    """CONNACK 3, here from global_max_clients, until the reload that lets it in."""
    broker = start("global_max_clients 2\nallow_anonymous true\n")
    with subprocess.Popen([program("login_storm"), str(broker.ports["tcp"]), "3", "any", "0"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as load:
        load.stdin.write("in\n")
        load.stdin.flush()
        broker.wait_log("refused: global_max_clients is reached")
        broker.configure("global_max_clients 3\nallow_anonymous true\n")
        broker.reload()
        answer = load.stdout.readline().split()
        assert answer[2] == "3" and int(answer[3]) > 0 and answer[4] == "0"
        load.stdin.close()
        assert load.wait() == 0


def test_talk_counts_each_message_once(start, program):
    """No latency is told of a message that the broker has not passed on, or twice."""
    broker = start()
    watcher = broker.connect("watcher")
    watcher.subscribe("t/#")
    with subprocess.Popen([program("talk"), str(broker.ports["tcp"]), "3", "1000", "any", "any"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as talk:
        seen = len(watcher.topics(200))
        counts = [len(line.split()) for line in talk.communicate("\n\n")[0].splitlines()]
        assert talk.returncode == 0
    broker.wait_log(r"Client t/0\d \[.*\] disconnected: ", 3)  # by a reset, where a message was unread
    assert len(counts) == 2 and counts[0] >= seen
    watcher.topics(sum(counts) - seen)
