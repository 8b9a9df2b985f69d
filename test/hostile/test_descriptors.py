"""No descriptors: used up by clients (RLIMIT_NOFILE), by the whole system (ENFILE), or no memory for a socket (ENOMEM).

Accepting rests and says so; who is connected goes on; a reload still reads its files; nothing opens by accident; when there
are descriptors again it goes on by itself.
"""

import ctypes
import errno
import os
import resource
import select
import signal
import time

import pytest

from bramble import LISTENER, Broker, Failed, passwd
from rawmqtt import NOT_AUTHORISED, connect
from shims import shim, shim_library  # noqa: F401 (fixtures)

LOCKED = ("allow_anonymous false\npassword_file {dir}/passwd\nacl_file {dir}/acl\nlog_dest stderr\nlog_dest file {dir}/log\n"
          "include_dir {dir}/conf.d\n")
FILES = {"passwd": "one:secret", "acl": "user one\ntopic readwrite #\n", "conf.d/own.conf": "max_keepalive 1000\n",
         "page/a/b/c/index.html": "deep"}
OURS = {"user": "one", "password": "secret"}
EVERYTHING = LOCKED + LISTENER["tcp"] + LISTENER["tls"] + LISTENER["wss"] + "http_dir {dir}/page\n"


def limit(broker, number):
    resource.prlimit(broker.pid, resource.RLIMIT_NOFILE, (number, number))


def use_up(broker, room=12):
    """Connections that take all descriptors there are; more are waiting in the kernel."""
    limit(broker, max(int(fd) for fd in os.listdir(f"/proc/{broker.pid}/fd")) + 1 + room)
    many = [broker.stream() for _ in range(2 * room)]
    broker.wait_log("Cannot accept connections: Too many open files. Accepting rests until that is better.")
    return many


@pytest.fixture
def full(start):
    """A daemon without a free descriptor, somebody who is connected, and those who take the descriptors."""
    broker = start(EVERYTHING, files=FILES)
    good = broker.connect("good", **OURS)
    return broker, good, use_up(broker)


def test_those_who_are_there_go_on(full):
    broker, good, many = full
    assert broker.descriptors() == resource.prlimit(broker.pid, resource.RLIMIT_NOFILE)[0]
    good.subscribe(("t", 2))
    good.publish("t", "x", 1)
    good.expect_message("t", "x")
    for stream in many:
        stream.close()
    broker.wait_log("Connections are accepted again.")
    broker.connect("later", **OURS).ping()
    good.ping()
    assert broker.log.count("Cannot accept connections") <= 1 + broker.log.count("Connections are accepted again")


def test_a_reload_reads_its_files(full):
    """All of them: configuration, include_dir, passwords, ACL, certificates, the page, the log."""
    broker, good, many = full
    passwd(broker.dir / "passwd", "two", "secret")
    broker.write("conf.d/own.conf", "max_keepalive 999\n")
    (broker.dir / "log").rename(broker.dir / "log.1")
    for count in range(1, 4):  # what is lent is given back each time
        broker.reload()
        broker.wait_log("Reloaded", count)
    assert "Reload:" not in broker.log and "failed" not in broker.log
    good.ping()
    for stream in many:
        stream.close()
    broker.connect("c", user="two", password="secret").ping()
    broker.client().connect("c", **OURS, keepalive=1000, expect=2)
    broker.client().connect("c", expect=NOT_AUTHORISED)
    broker.client().connect("c", user="two", password="wrong", expect=NOT_AUTHORISED)
    assert (broker.dir / "log").exists()


def test_the_watchdog_is_fed(start):
    """Or the service manager would kill a daemon that only has many clients."""
    broker = start(LOCKED + LISTENER["tcp"], files=FILES, env={"WATCHDOG_USEC": "200000"})
    broker.connect("good", **OURS)
    use_up(broker)
    broker._forget_notify()
    for _ in range(3):
        broker.wait_notify("WATCHDOG=1")


def test_it_ends_in_order(full):
    broker, _, _ = full
    broker._forget_notify()
    broker.signal(signal.SIGTERM)
    broker.wait_notify("STOPPING=1")
    broker.wait()


def test_no_descriptor_for_a_reload_at_all(start, shim):  # noqa: F811
    """A password file that cannot be opened is no reason to let anybody in: the old one counts."""
    broker = start(LOCKED + LISTENER["tcp"], files=FILES, env=shim.env)
    good = broker.connect("good", **OURS)
    for count, number in enumerate((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO), 1):
        shim.error("open", number)
        broker.reload()
        shim.error("open", 0)
        broker.wait_log("Reload failed: everything stays as it was", count)
        broker.wait_log(f"bramble.conf: Error: Unable to open config file: {os.strerror(number)}")
        broker.client().connect("c", expect=NOT_AUTHORISED)
        broker.client().connect("c", user="one", password="wrong", expect=NOT_AUTHORISED)
        broker.connect("c", **OURS)
        good.ping()
    shim.error("thread", errno.EAGAIN)
    broker.reload()
    shim.error("thread", 0)
    broker.wait_log("no memory or no thread for it. Everything stays as it was")
    broker.client().connect("c", expect=NOT_AUTHORISED)
    broker.reload()
    broker.wait_log("Reloaded")


@pytest.mark.parametrize("name", ["EMFILE", "ENFILE", "ENOMEM", "ENOBUFS"])
def test_nothing_can_be_accepted(start, shim, name):  # noqa: F811
    """It rests (it does not spin), says so once, and goes on by itself."""
    broker = start(EVERYTHING, files=FILES, env=shim.env)
    good = broker.connect("good", **OURS)
    number = getattr(errno, name)
    shim.error("accept", number)
    waiting = broker.stream()
    broker.wait_log(f"Cannot accept connections: {os.strerror(number)}")
    started, before = time.monotonic(), shim.refused("accept")
    for _ in range(100):
        good.publish("t", "x", 1)  # each is at least one turn of the loop
    assert shim.refused("accept") - before <= 3 * (time.monotonic() - started + 2)  # three listeners, once a second
    broker.reload()  # meanwhile
    broker.wait_log("Reloaded")
    good.ping()
    shim.error("accept", 0)
    broker.wait_log("Connections are accepted again.")
    waiting.close()
    broker.connect("later", **OURS).ping()
    assert broker.log.count("Cannot accept connections") == 1


@pytest.mark.parametrize("name", ["ECONNABORTED", "EPROTO", "EPERM", "ENETDOWN", "EHOSTUNREACH", "EINTR"])
def test_one_connection_that_cannot_be_accepted(start, shim, name):  # noqa: F811
    """It is gone already; the others do not wait for that."""
    broker = start(env=shim.env)
    good = broker.connect("good")
    shim.error("accept", getattr(errno, name))
    waiting = broker.stream()
    good.ping()
    shim.error("accept", 0)
    broker.connect("next").ping()
    waiting.close()
    good.ping()
    assert "Cannot accept" not in broker.log


def without_right_to_raise_limits(soft):
    """In the child, before exec: root may raise its limits with CAP_SYS_RESOURCE only."""
    def prepare():
        libc = ctypes.CDLL(None, use_errno=True)
        if os.geteuid() == 0:
            assert libc.prctl(24, 24, 0, 0, 0) == 0  # PR_CAPBSET_DROP, CAP_SYS_RESOURCE
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, soft))
    return prepare


class Limited(Broker):
    """A daemon that is started with so many descriptors."""

    soft = 0

    def popen(self, command, **options):
        return super().popen(command, preexec_fn=without_right_to_raise_limits(self.soft), **options)


@pytest.mark.parametrize("config", ["tcp", "everything"])
def test_start_with_few_descriptors(tmp_path, pki, config):
    """From 3 on, some more each time: a reason and a status, or a daemon that serves; from some number on always that."""
    text = LOCKED + LISTENER["tcp"] if config == "tcp" else EVERYTHING
    broker = Limited(tmp_path / "broker", text, pki, files=FILES)
    served = []
    for broker.soft in range(3, 60, 3 if config == "tcp" else 5):
        try:
            broker.start()
        except Failed as error:
            if error.status == 127:
                broker._notify.close()
                continue  # not even the libraries could be opened
            assert error.status in (1, 3), str(error)
            assert "Too many open files" in error.text or "Error: " in error.text or "/dev/null" in error.text, error.text
            assert not served, f"with {broker.soft} descriptors: {error}"
            broker._notify.close()
            continue
        if can_connect(broker):
            served.append(broker.soft)
        assert bool(served) == (broker.soft in served), f"not with {broker.soft} descriptors, but with {served}"
        broker.stop()
    assert served and served[0] < 60


def can_connect(broker):
    """One client; a daemon may have started with no descriptor left for it, and said so."""
    client = broker.client()
    client.send(connect("c", **OURS))
    for _ in range(200):
        if select.select([client.stream.sock], [], [], 0.1)[0]:
            break
        if "Cannot accept connections" in broker.log:
            client.close()
            return False
    client.connack()
    client.close()
    return True
