"""attack: what a test of hostile input looks at beside the attacker.

    with Bystanders(broker) as others:     # a pair of clients that publish, receive and ping all the time
        memory = Memory(broker)
        ...                                # the attack
        others.go_on()                     # they have done a whole round since, and lost nothing
    memory.check(peak=20 * MB)             # what the daemon took at most, and what it still has

Nothing here looks at a clock: a bystander fails when a message is lost, changed, doubled or out of order, when its
connection ends, or when an answer does not come at all (TIMEOUT).
"""

import itertools
import os
import re
import resource
import selectors
import threading
import time
from pathlib import Path

from bramble import SANITIZED, Client
from streams import TIMEOUT

MB = 1 << 20


def fewer(n, by=10):
    """So many times; less often with sanitizers, where all is slow."""
    return n if not SANITIZED else max(1, n // by)


def many_descriptors(wanted):
    """Lets this process, and the daemons it starts from now on, have that many. Returns how many more can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        soft = min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft - 100


def crowd(n):
    """So many connections, as far as the machine allows for it. Fewer than a hundred make no crowd."""
    n = min(n, many_descriptors(n + 500) - 300)
    assert n >= 100, "this needs more descriptors: raise the hard limit (ulimit -Hn)"
    return n


def quiet_send(client, *data):
    """A client that sends to whoever may have closed already."""
    try:
        client.send(*data)
    except (ConnectionError, TimeoutError):
        pass


def push(client, data, timeout=1.0):
    """Sends until nobody takes it any more for a while, or all of it. Returns how much went. The pause is the sender's:
    a broker that would take more just gets less from this test."""
    sock, sent = client.stream.sock, 0
    sock.settimeout(timeout)
    try:
        while sent < len(data):
            sent += sock.send(data[sent:sent + 65536])
    except (TimeoutError, ConnectionError):
        pass
    sock.settimeout(TIMEOUT)
    return sent


def deaf_client(broker, client_id, **fields):
    """One whose socket takes little before the broker feels that nobody reads."""
    client = Client(broker.stream(receive_buffer=4096))
    client.connect(client_id, **fields)
    return client


class Drain:
    """Reads whatever comes for some clients and throws it away, in a thread; counts the bytes."""

    def __init__(self, *clients):
        self.bytes = sum(len(client.buffer) for client in clients)
        for client in clients:
            client.buffer.clear()
        self._clients = clients
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def _run(self):
        ready = selectors.DefaultSelector()
        for client in self._clients:
            ready.register(client.stream.sock, selectors.EVENT_READ)
        while not self._end.is_set() and ready.get_map():
            for key, _ in ready.select(0.05):
                try:
                    data = key.fileobj.recv(1 << 20)
                except ConnectionError:
                    data = b""
                self.bytes += len(data)
                if not data:
                    ready.unregister(key.fileobj)

    def wait(self, n):
        """Until that many bytes have come, and not one more with them."""
        end = time.monotonic() + 6 * TIMEOUT
        while self.bytes < n:
            assert time.monotonic() < end, f"{self.bytes} bytes came, not {n}"
            time.sleep(0.005)
        assert self.bytes == n, f"{self.bytes} bytes came, {n} are right"

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()


class Bystanders:
    """Two clients that have nothing to do with the attack. A thread lets one publish at all QoS and the other receive,
    and both ping, one round after the other, a few of them each 10 ms."""

    _numbers = itertools.count()

    def __init__(self, broker, port="tcp", **login):
        number = next(Bystanders._numbers)
        self.topic = f"bystanders/{number}"
        self.reader = broker.connect(f"bystander-reader-{number}", port, **login)
        self.writer = broker.connect(f"bystander-writer-{number}", port, **login)
        self.reader.subscribe((self.topic, 2))
        self.rounds = 0
        self.error = None
        self._end = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        self.go_on()
        return self

    def _round(self):
        for qos in (0, 1, 2):
            text = f"{self.rounds} {qos}"
            self.writer.publish(self.topic, text, qos)
            self.reader.expect_message(self.topic, text, qos, retain=False, dup=False)
        self.reader.ping()
        self.writer.ping()

    def _run(self):
        while not self._end.wait(0.01):
            try:
                self._round()
            except Exception as error:  # pylint: disable=broad-except; it is raised again where the test looks
                self.error = error
            with self._changed:
                self.rounds += 1
                self._changed.notify_all()
            if self.error:
                return

    def go_on(self):
        """Waits until they have begun and ended a round."""
        with self._changed:
            wanted = self.rounds + 2
            assert self._changed.wait_for(lambda: self.rounds >= wanted or self.error, 4 * TIMEOUT), "they are stuck"
        if self.error:
            raise AssertionError(f"a bystander was disturbed in round {self.rounds}: {self.error!r}") from self.error

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self.go_on()
        finally:
            self._end.set()
            self._thread.join(4 * TIMEOUT)
        for client in (self.reader, self.writer):
            client.close()


class Memory:
    """Resident memory of the daemon, from now on. With sanitizers every allocation is larger, and what was freed is kept
    for a while (QUARANTINE): the bounds are wider, but they are there."""

    def __init__(self, broker):
        self.broker = broker
        self.before = broker.resident()
        try:
            Path(f"/proc/{broker.pid}/clear_refs").write_text("5")  # the peak counts from here
        except OSError:
            pass  # then since the start, which is no less

    def peak(self):
        """How far it has risen since, at most."""
        text = Path(f"/proc/{self.broker.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", text)[1]) * 1024 - self.before

    def grown(self):
        return self.broker.resident() - self.before

    def check(self, peak, after=None):
        """after: what may be left of it; not said: no more than the peak."""
        scale = 1 if not SANITIZED else 3
        more = 0 if not SANITIZED else QUARANTINE + 32 * MB
        print(f"memory: peak {self.peak() / MB:.1f} MB, left {self.grown() / MB:.1f} MB")
        assert self.peak() <= scale * peak + more, f"{self.peak() / MB:.1f} MB at the peak"
        if after is not None:
            assert self.grown() <= scale * after + more, f"{self.grown() / MB:.1f} MB are left"


QUARANTINE = 16 * MB


def environment():
    """Of a daemon whose memory is looked at: the address sanitizer would keep 256 MB of freed memory."""
    options = os.environ.get("ASAN_OPTIONS", "")
    return {"ASAN_OPTIONS": f"{options}:quarantine_size_mb={QUARANTINE // MB}"} if SANITIZED else {}


__all__ = ["MB", "Bystanders", "Drain", "Memory", "crowd", "deaf_client", "environment", "fewer", "many_descriptors", "push", "quiet_send"]
