"""The end of the daemon, and what it tells systemd."""

import signal
import time
from pathlib import Path

from bramble import passwd
from rawmqtt import Will, connect
from streams import TIMEOUT


def test_sigterm(start):
    """With clients of all kinds connected: exit 0, connections closed, the log says so."""
    broker = start("listener {tcp} 127.0.0.1\nlistener {ws} 127.0.0.1\nprotocol websockets\npid_file {dir}/pid\n")
    clients = [broker.connect("a"), broker.connect("b", clean=False, will=Will("t")), broker.connect("c", "ws")]
    idle = broker.client()
    assert int((broker.dir / "pid").read_text()) == broker.pid
    broker.signal(signal.SIGTERM)
    broker.wait_notify("STOPPING=1")
    for client in (*clients, idle):
        client.expect_closed()
    broker.wait(0)
    assert "terminating" in broker.log
    assert not (broker.dir / "pid").exists()


def test_sigterm_does_not_wait_for_a_long_check(start):
    """A check of as many rounds as an entry may have, which takes seconds on any machine: the daemon leaves in its midst, and
    everything else is closed before."""
    broker = start("listener {tcp} 127.0.0.1\nallow_anonymous false\npassword_file {dir}/users\npid_file {dir}/pid\n",
                   files={"users": f"one:$7$10000000${'A' * 16}${'A' * 86}==\n"})
    client = broker.client()
    client.send(connect("c", user="one", password="secret"))
    deadline = time.monotonic() + TIMEOUT
    while hashing(broker.pid) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    broker.signal(signal.SIGTERM)
    client.expect_closed()
    broker.wait(0)
    assert "The password that is being checked is not waited for." in broker.log and "terminating" in broker.log
    assert not (broker.dir / "pid").exists()


def hashing(pid):
    """Hundredths of a second that the threads for passwords have worked."""
    stats = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return sum(int(stat.rpartition(")")[2].split()[11]) for stat in stats if "(hasher)" in stat)


def test_sigint(start):
    broker = start()
    broker.signal(signal.SIGINT)
    broker.wait(0)


def test_sigterm_sends_what_is_queued(start):
    """A message that was read before SIGTERM reaches its subscriber."""
    broker = start()
    reader, writer = broker.connect("reader"), broker.connect("writer")
    reader.subscribe(("t", 1))
    writer.publish("t", "last words", 1)
    broker.signal(signal.SIGTERM)
    reader.expect_message("t", "last words", acknowledge=False)
    reader.expect_closed()
    broker.wait(0)


def test_sigterm_with_logins_under_way(start, tmp_path):
    """Passwords that are being checked when the daemon ends find nobody to tell."""
    passwd(tmp_path / "slow", "u", "secret", "-H", "argon2id")
    broker = start(f"password_file {tmp_path}/slow\n")
    clients = [broker.client() for _ in range(40)]
    for i, client in enumerate(clients):
        client.send(connect(f"c{i}", user="u", password="secret"))
    broker.wait_log("New client connected")
    broker.signal(signal.SIGTERM)
    broker.wait(0)


def test_sighup_does_not_spoil_the_end(start):
    """Log rotation and the end of the service may meet."""
    broker = start()
    broker.signal(signal.SIGTERM)
    while broker.process.poll() is None:
        broker.signal(signal.SIGHUP)
    broker.wait(0)


def test_second_sigterm_ends_at_once(start):
    broker = start()
    broker.connect("c")
    started = time.monotonic()
    broker.signal(signal.SIGTERM)
    broker.signal(signal.SIGTERM)
    broker.wait(0)
    assert time.monotonic() - started < 10


def test_other_signals_do_not_end_it(start):
    broker = start()
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE):
        broker.signal(number)
    broker.connect("c").ping()


def test_restart_on_the_same_port(start):
    """Connections of the last life do not keep the port."""
    broker = start()
    for life in range(3):
        clients = [broker.connect(f"c{i}") for i in range(5)]
        broker.stop()
        for client in clients:
            client.expect_closed()
        if life < 2:
            broker.start()


def test_watchdog(start):
    """WATCHDOG=1 twice in the time that systemd gives."""
    broker = start(env={"WATCHDOG_USEC": "400000"})
    for _ in range(3):
        broker.wait_notify("WATCHDOG=1")
