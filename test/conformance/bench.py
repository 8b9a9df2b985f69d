"""bench: what a test of the standard is made of.

    @statement("3.1.4-2", {"the older connection stays open": hold_close()})
    def test_3_1_4_2_same_client_id(bench):
        older = bench.connect("twin")
        bench.connect("twin")
        older.expect_closed()

statement names a row of statements.tsv and the ways in which a broker can break it (breakers.py). Each test is run over
tcp (through a proxy that changes nothing), tls and ws, and then once for each of its breakers, where it has to fail:
conftest.py sees to that. A test that stands for several rows has a statement for each, the first of which is in its name.

All tests share one daemon, so client ids and topics come from bench.id() and bench.topic(), which are nobody else's. A
test that needs another configuration says bench.configure(...), and gets a daemon of its own. With --broker=HOST:PORT there
is no daemon of ours at all: then what needs a configuration is not applicable.
"""

import functools
import secrets
from collections import deque
from pathlib import Path

import pytest

import rawmqtt
import streams
from bramble import LISTENER
from proxy import Breaker, Proxy, Web
from rawmqtt import PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK, UNSUBACK, Closed
from streams import HttpError

WAYS = ("tcp", "tls", "ws")
FAILURES = (AssertionError, Closed, TimeoutError, ConnectionError, HttpError)  # how a test fails when a broker is wrong
FOREIGN_PATIENCE = 5.0  # seconds for an answer of somebody else's broker: many may be missing

STATEMENTS = {}  # number: what a test must show
for _line in Path(__file__).with_name("statements.tsv").read_text().splitlines():
    if _line and not _line.startswith("#"):
        _number, _text = _line.split("\t")
        STATEMENTS[_number] = _text


def statement(number, breakers, ways=WAYS):
    """breakers: words and rules. ways: only over these."""
    def mark(function):
        function.__dict__.setdefault("statements", {})[number] = breakers
        function.__dict__["ways"] = ways
        return function
    return mark


class Run:
    """Of one test: way, and for a broken one row, words and rules. noticed: how the test failed."""

    def __init__(self, way, row=None, words=None, rules=None):
        self.way, self.row, self.words, self.rules = way, row, words, rules
        self.noticed = None

    def __str__(self):
        return f"broken {self.row}: {self.words}" if self.row else self.way


def judge(failure, breaker):
    """What is wrong with the run of a test with a broken broker; None if it failed as it should."""
    if isinstance(failure, FAILURES):
        return None if breaker.broken else f"it failed before its breaker had broken anything: {failure!r}"
    if failure is not None:
        return f"the test itself is broken: {failure!r}"
    return "the test did not notice" if breaker.broken else "the breaker was never applied"


class Client(rawmqtt.Client):
    """Takes what the standard leaves open: a PUBLISH may come before the acknowledgement that is waited for, and is
    received after it."""

    ANSWERS = (SUBACK, UNSUBACK, PUBACK, PUBREC, PUBREL, PUBCOMP)

    def __init__(self, stream):
        super().__init__(stream)
        self.early = deque()

    def next(self):
        return self.early.popleft() if self.early else super().next()

    def expect(self, kind, mid=None):
        if kind in self.ANSWERS:
            early, self.early = self.early, deque()
            while (got := self.next()).kind == PUBLISH:
                early.append(got)
            self.early = early
            self.early.appendleft(got)
        return super().expect(kind, mid)


tls_context = functools.cache(streams.tls_context)


class Bench:
    """One run of one test. way: tcp, tls, ws or broker (somebody else's, over tcp); breaker: None, or what makes the broker
    a broken one."""

    run = secrets.token_hex(2)
    count = 0

    def __init__(self, way, daemon, breaker=None, foreign=None, start=None):
        Bench.count += 1
        self.number = Bench.count
        self.prefix = f"c{Bench.run}{self.number:04d}"
        self.way = way
        self.daemon = daemon
        self.breaker = Breaker(*breaker) if breaker is not None else None
        self.foreign = foreign
        self._start = start
        self._open = []
        self._kept = set()

    # names

    def id(self, name):
        """A client id of 1 to 23 letters and digits, which every broker takes [MQTT-3.1.3-5]."""
        made = self.prefix + name
        if len(made) > 23 or not made.isalnum():
            raise ValueError(f"{made} is not a client id that every broker takes")
        return made

    def topic(self, name):
        return f"{Bench.run}/{self.number}/{name}"

    # connections

    def configure(self, config, **options):
        """A daemon of its own for this test, with the listener of its way."""
        if self.foreign:
            pytest.skip("not applicable: it needs a configuration of bramble's")
        self.daemon = self._start(config.rstrip("\n") + "\n" + LISTENER[self.way], **options)
        return self.daemon

    def _socket(self):
        host, port = self.foreign or ("127.0.0.1", self.daemon.ports[self.way])
        stream = streams.tcp(port, host)
        self._open.append(stream)
        return stream

    def raw_socket(self):
        """TCP, with only the proxy on it: for the head and the frames of WebSocket."""
        return Proxy(self._socket(), self.breaker or Breaker(), self, Web)

    def stream(self, **websocket):
        if self.way == "ws":
            return streams.WebSocket(self.raw_socket() if self.breaker else self._socket(), **websocket)
        if self.way == "tls":
            stream = streams.tls(self._socket(), tls_context(self.daemon.pki.ca))
            self._open.append(stream)
            return stream
        proxy = Proxy(self._socket(), self.breaker or Breaker(), self)
        if self.foreign:
            proxy.patience(FOREIGN_PATIENCE)
        return proxy

    def client(self):
        """Connected to the broker, has sent nothing."""
        return Client(self.stream())

    def connect(self, name, present=None, **fields):
        """Has sent CONNECT with a client id of this name, and got CONNACK. present: what it has to say about that."""
        if not fields.get("clean", True):
            self._kept.add(name)
        client = self.client()
        said = client.connect(self.id(name), **fields)
        assert present in (None, said), f"session present is {said}"
        return client

    def subscriber(self, name, *filters, **fields):
        """Connected, and subscribed to these topics of the bench; (topic, QoS) or the topic, at QoS 2."""
        client = self.connect(name, **fields)
        pairs = [(f, 2) if isinstance(f, str) else f for f in filters]
        codes = client.subscribe(*((self.topic(f), qos) for f, qos in pairs))
        assert codes == [qos for _, qos in pairs], f"granted {codes}"
        return client

    def mortal(self, **fields):
        """Connected, with a will at QoS 1."""
        return self.connect("mortal", will=rawmqtt.Will(self.topic("will"), "gone", 1), **fields)

    def publish(self, topic, payload=b"", qos=1, retain=False):
        """By a client that comes only for this, until the broker has it."""
        client = self.direct("aside")
        client.publish(self.topic(topic), payload, qos, retain)
        if not qos:
            client.ping()
        client.disconnect()

    def direct(self, name, **fields):
        """A client that no breaker disturbs."""
        breaker, self.breaker = self.breaker, None
        try:
            client = self.client()
            client.connect(self.id(name), **fields)
            return client
        finally:
            self.breaker = breaker

    # cases

    def every(self, cases, check):
        """check(case) for each of the named cases; one failure tells of all that failed."""
        failed = []
        for name, case in cases.items():
            try:
                check(case)
            except FAILURES as error:
                if self.breaker:
                    raise
                failed.append(f"{name}: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
        assert not failed, f"{len(failed)} of {len(cases)} cases: " + "; ".join(failed)

    def every_closes(self, cases):
        """Each of these bytes, sent by a client that is connected, makes the broker close."""
        def check(data):
            client = self.connect("wrong")
            client.send(data)
            client.expect_closed()
            client.close()
        self.every(cases, check)

    def every_is_no_connect(self, cases):
        """Each of these bytes, sent first, makes the broker close without an answer."""
        def check(data):
            client = self.client()
            try:
                client.send(data)
            except ConnectionError:
                pass  # it has not even taken all of it
            client.expect_closed()
            client.close()
        self.every(cases, check)

    # the end

    def close(self):
        if self.foreign:
            self._tidy()
        for stream in self._open:
            stream.close()

    def _tidy(self):
        """Leaves no session behind on somebody else's broker."""
        for name in self._kept:
            try:
                self.direct(name).disconnect()
            except (OSError, *FAILURES):
                pass


def raw_connect(fields, bits=2):
    """CONNECT with any flags over any payload."""
    return rawmqtt.packet(rawmqtt.CONNECT, 0, rawmqtt.string("MQTT") + bytes([4, bits]) + b"\0\x3c" + fields)


def sweep(foreign):
    """Nor any retained message."""
    host, port = foreign
    client = Client(streams.tcp(port, host))
    client.stream.patience(1)
    client.connect("c" + Bench.run + "sweep")
    client.subscribe((Bench.run + "/#", 0))
    try:
        while True:
            got = client.expect(PUBLISH)
            if got.retain:
                client.send(rawmqtt.publish(got.topic, b"", 0, True))
    except (OSError, *FAILURES):
        client.close()


