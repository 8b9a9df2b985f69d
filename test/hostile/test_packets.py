"""Packets that no honest client sends: each ends its own connection and nothing else, and the log says which packet it
was, what was wrong with it, and whose.

Small packets are parsed where they were read, among other bytes; those above 64 KiB always stand in a block of exactly
their size, where a sanitizer sees a step beyond the end. So what is bent comes in both sizes.
"""

import itertools
import re
import struct

import pytest

from attack import MB, Bystanders, Memory
from bramble import passwd
from rawmqtt import *
from streams import Closed

NOT_FIRST = "the first packet must be CONNECT"
FORBIDDEN = "a client may not send this"
FLAGS = "reserved flag bits of the fixed header are wrong"
LENGTH = "the remaining length is malformed or does not fit the packet"
TRUNCATED = "a field ends beyond the packet"
TRAILING = "bytes are left over after the last field"
UTF8 = "a string is not well-formed UTF-8"
TOPIC = "a topic name is empty or holds a wildcard"
FILTER = "a topic filter is malformed"
QOS = "the QoS is not 0, 1 or 2"
ANY = ".*"

BIG = 65535  # the longest string
ID = struct.pack(">H", 7)
NOISE = b"\xff" * 100  # ends any parser that got out of step: a length of five bytes

# A body that would be right for each type of packet, reserved ones included.
BODIES = {
    0: b"", CONNECT: connect("other")[2:], CONNACK: b"\0\0", PUBLISH: string("t") + ID + b"x", PUBACK: ID, PUBREC: ID,
    PUBREL: ID, PUBCOMP: ID, SUBSCRIBE: ID + string("t") + b"\0", SUBACK: ID + b"\0", UNSUBSCRIBE: ID + string("t"),
    UNSUBACK: ID, PINGREQ: b"", PINGRESP: b"", DISCONNECT: b"", 15: b"",
}
OF_SERVER = (0, CONNACK, SUBACK, UNSUBACK, PINGRESP, 15)
WANTED_FLAGS = {PUBREL: 2, SUBSCRIBE: 2, UNSUBSCRIBE: 2}


def flags_of(kind):
    return WANTED_FLAGS.get(kind, 0)


class Sinner:
    """Clients that do one thing wrong each, at a broker that has bystanders."""

    def __init__(self, broker):
        self.broker = broker
        self.numbers = itertools.count()

    def connected(self, **fields):
        self.name = f"sinner-{next(self.numbers)}"
        client = self.broker.connect(self.name, **fields)
        self.address = r"127\.0\.0\.1"
        return client

    def stranger(self):
        """One that sends something else than CONNECT goes by its address; its port tells it from the others."""
        client = self.broker.client()
        self.name = r"127\.0\.0\.1"
        self.address = rf"127\.0\.0\.1:{client.stream.sock.getsockname()[1]}"
        return client

    def is_told(self, kind, reason):
        """The reason stands in the log, with the packet and the client."""
        name = NAMES[kind] if isinstance(kind, int) else kind
        self.broker.wait_log(rf"Client {self.name} \[{self.address}.*\] disconnected: protocol error in {name}: {reason}")

    def sins(self, client, data, kind, reason):
        try:
            client.send(data)
        except ConnectionError:
            pass  # closed before all of it was sent
        client.expect_closed()
        self.is_told(kind, reason if reason == ANY else re.escape(reason))
        client.close()

    def first(self, data, kind, reason):
        self.sins(self.stranger(), data, kind, reason)

    def later(self, data, kind, reason, **fields):
        self.sins(self.connected(**fields), data, kind, reason)


@pytest.fixture
def sinner(attacked):
    """At the end the daemon is as it was, and those who looked on noticed nothing."""
    broker = attacked("max_topic_levels 200\n")
    memory, descriptors = Memory(broker), broker.descriptors()
    with Bystanders(broker) as others:
        sinner = Sinner(broker)
        sinner.others = others
        yield sinner
        others.go_on()
        for _ in range(500):  # a connection ends when the loop hears of it: each ping is a turn at least
            if broker.descriptors() <= descriptors + 3:
                break
            others.go_on()
        assert broker.descriptors() <= descriptors + 3  # the bystanders, and a log that may be opening
    memory.check(peak=12 * MB, after=8 * MB)


# ---- any packet, anywhere

def test_any_packet_first(sinner):
    """All 16 types with all 16 values of the flags."""
    for kind, flags in itertools.product(range(16), range(16)):
        if kind != CONNECT:
            sinner.first(packet(kind, flags, BODIES[kind]), kind, NOT_FIRST)
        elif flags:
            sinner.first(packet(kind, flags, BODIES[kind]), kind, FLAGS)


def test_the_first_byte_is_enough(sinner):
    """What cannot become a CONNECT is not waited for: no byte more need come."""
    for byte in (0x00, 0x30, 0x82, 0xe0, 0xff, ord("G")):
        sinner.first(bytes([byte]), byte >> 4, NOT_FIRST)
    for byte in (0x11, 0x16, 0x1f):  # 16 is that of TLS
        sinner.first(bytes([byte]), CONNECT, FLAGS)


def right_flags(kind, flags):
    """Whether a client may send it so."""
    if kind == PUBLISH:
        return flags >> 1 & 3 != 3 and not (flags & 8 and not flags & 6)
    return kind not in (CONNECT, *OF_SERVER) and flags == flags_of(kind)


def test_any_packet_with_any_flags(sinner):
    """After CONNECT was accepted: 16 types, 16 values of the flags, right and wrong ones."""
    for kind, flags in itertools.product(range(16), range(16)):
        data = packet(kind, flags, BODIES[kind])
        if right_flags(kind, flags):
            client = sinner.connected()
            client.send(data)
            if kind == DISCONNECT:
                client.expect_closed()
                continue
            client.send(packet(PINGREQ, 0))
            kinds = set()
            while PINGRESP not in kinds:
                kinds.add(client.next().kind)
            client.close()
        else:
            reason = (FORBIDDEN if kind in OF_SERVER else "it was already connected" if kind == CONNECT else
                      FLAGS if kind != PUBLISH else QOS if flags & 6 == 6 else "DUP is set on a QoS 0 PUBLISH")
            sinner.later(data, kind, reason)


def test_old_clients_may_set_dup(sinner):
    """MQTT 3.1 let them, in what they repeat; the other bits are refused there too."""
    for kind, flags in itertools.product((PUBREL, SUBSCRIBE, UNSUBSCRIBE, PINGREQ, DISCONNECT), range(16)):
        data = packet(kind, flags, BODIES[kind])
        if flags & 7 == flags_of(kind):
            client = sinner.connected(level=3)
            client.send(data)
            if kind == DISCONNECT:
                client.expect_closed()
            else:
                assert client.next().kind == {PUBREL: PUBCOMP, SUBSCRIBE: SUBACK, UNSUBSCRIBE: UNSUBACK}.get(kind, PINGRESP)
            client.close()
        else:
            sinner.later(data, kind, FLAGS, level=3)


LOGIN = "password_file {dir}/passwd\n"


@pytest.mark.parametrize("password", ["right", "wrong"])
def test_any_packet_during_a_login(attacked, password):
    """CONNECT with a password and another packet behind it at once. Nothing is parsed before the verdict; then it counts
    like any other, or, when the login failed, not at all."""
    broker = attacked(LOGIN, files={"passwd": "user:right watcher:w"})
    passwd(broker.dir / "passwd", "user", "right", "-H", "argon2id")  # a slow one
    broker.reload()
    sinner = Sinner(broker)
    with Bystanders(broker, user="watcher", password="w") as others:
        watcher = broker.connect("watcher", user="watcher", password="w")
        watcher.subscribe("#")
        clients = []
        for kind in range(16):
            client = broker.client()
            client.send(connect(f"login-{kind}", user="user", password=password, will=Will("will", str(kind))),
                        packet(kind, flags_of(kind), BODIES[kind]))
            clients.append(client)
        others.go_on()
        for kind, client in enumerate(clients):
            if password == "wrong":
                client.connack(NOT_AUTHORISED)
                broker.wait_log(rf"Client login-{kind} \[.*\] refused: wrong user name or password")
            elif kind in (CONNECT, *OF_SERVER):  # what was to be answered goes with the connection
                broker.wait_log(rf"New client connected from .* as login-{kind} ")
                sinner.name, sinner.address = f"login-{kind}", ""
                sinner.is_told(kind, "it was already connected" if kind == CONNECT else FORBIDDEN)
            else:
                client.connack()
        assert password == "right" or "protocol error" not in broker.log
        broker.connect("sync", user="watcher", password="w").publish("end", "x", 1)
        seen = []
        while not seen or seen[-1].topic != "end":
            got = watcher.receive()
            if not got.topic.startswith("bystanders"):
                seen.append(got)
        topics = sorted(got.topic for got in seen)
        if password == "right":  # the sinners' wills, and the one honest PUBLISH
            assert topics == sorted(["will"] * 7 + ["t", "end"])
        else:
            assert topics == ["end"]
    for client in clients:
        client.close()


def test_any_packet_after_disconnect(sinner):
    """In one piece with DISCONNECT and behind it: not looked at. The will is gone, nothing is published."""
    watcher = sinner.broker.connect("watcher")
    watcher.subscribe("will", "t")
    for kind in range(16):
        data = packet(kind, flags_of(kind), BODIES[kind])
        client = sinner.connected(will=Will("will"))
        client.send(packet(DISCONNECT, 0), data, publish("t", "after the end"), NOISE)
        client.expect_closed()
        client.close()
    watcher.expect_nothing()
    sinner.broker.wait_log(r"Client sinner-15 disconnected\.")
    assert "protocol error" not in sinner.broker.log


# ---- lengths

def small(kind):
    return BODIES[kind]


def large(kind):
    """Bodies that are read into a block of their own."""
    topic = string("t" * BIG)
    return {
        CONNECT: connect("c", will=Will("w", b"x" * BIG), user="u" * 1000)[4:],
        PUBLISH: topic + ID + b"x" * 100,
        SUBSCRIBE: ID + topic + b"\0" + string("a") + b"\1",
        UNSUBSCRIBE: ID + topic + string("a"),
    }[kind]


FIELDS = [(kind, small) for kind in (CONNECT, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, UNSUBSCRIBE)]
FIELDS += [(kind, large) for kind in (CONNECT, PUBLISH, SUBSCRIBE, UNSUBSCRIBE)]


def at(sinner, kind, data, reason):
    """CONNECT stands first, the others behind it."""
    if kind != CONNECT:
        sinner.later(data, kind, reason)
        return
    client = sinner.stranger()
    client.send(data)
    client.expect_closed()
    sinner.broker.wait_log(rf"Client \S+ \[{sinner.address}\] disconnected: protocol error in CONNECT: {re.escape(reason)}")
    client.close()


@pytest.mark.parametrize("kind,body", FIELDS, ids=lambda p: NAMES[p] if isinstance(p, int) else p.__name__)
def test_one_byte_less_and_one_more(sinner, kind, body):
    """The remaining length goes with it: the fields no longer fit."""
    flags, body = flags_of(kind), body(kind)
    if kind == PUBLISH:
        flags = 2  # QoS 1; a byte more or less of payload is none of the broker's business, so cut into the fields
        body = body[:len(body) - (1 if len(body) < 100 else 100)]
    at(sinner, kind, packet(kind, flags, body[:-1]), TRUNCATED)
    if kind == PUBLISH:
        client = sinner.connected()
        client.send(packet(kind, flags, body), packet(kind, flags, body + b"x"))
        client.expect(PUBACK, 7)
        client.expect(PUBACK, 7)
        client.close()
    elif kind in (SUBSCRIBE, UNSUBSCRIBE):  # one byte is the start of a filter, which ends beyond the packet
        at(sinner, kind, packet(kind, flags, body + b"\0"), TRUNCATED)
    else:
        at(sinner, kind, packet(kind, flags, body + b"\0"), TRAILING)


@pytest.mark.parametrize("kind,body", FIELDS, ids=lambda p: NAMES[p] if isinstance(p, int) else p.__name__)
def test_length_that_lies_by_one(sinner, kind, body):
    """The remaining length says one byte less, or one more, than there is before the next packet: whoever believes it is
    out of step, and the noise behind it ends it. Nothing of it is ever taken for something else."""
    flags, body = flags_of(kind), body(kind)
    for lie in (-1, 1):
        data = bytes([kind << 4 | flags]) + length(len(body) + lie) + body + NOISE
        client = sinner.stranger() if kind == CONNECT else sinner.connected()
        try:
            client.send(data)
        except ConnectionError:
            pass
        answers = []
        try:
            while True:
                answers.append(client.next())
        except (Closed, ConnectionError):
            client.close()
        # What the length covers may still be right: a filter with U+00FF.. is not, a payload is.
        assert {a.kind for a in answers} <= {PUBACK, PUBREC, PUBCOMP, PUBLISH}, answers
        name = r"\S+" if kind == CONNECT else sinner.name
        sinner.broker.wait_log(rf"Client {name} \[{sinner.address}.*\] disconnected: protocol error in \w+: .")


def test_a_body_where_none_belongs(sinner):
    for kind in (PINGREQ, DISCONNECT):
        sinner.later(packet(kind, 0, b"x"), kind, TRAILING)
        sinner.later(packet(kind, 0, b"x" * 100_000), kind, TRAILING)


def test_every_packet_cut_at_every_byte(sinner):
    """The remaining length goes with it, down to 0. What is left must be a packet by itself or end the connection."""
    for kind in (CONNECT, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, UNSUBSCRIBE):
        body = small(kind)
        for n in range(len(body)):
            reason = TRUNCATED if n != 2 or kind not in (SUBSCRIBE, UNSUBSCRIBE) else "there is no topic filter"
            at(sinner, kind, packet(kind, flags_of(kind), body[:n]), reason)


@pytest.mark.parametrize("qos", [1, 2])
def test_publish_cut_before_its_identifier(sinner, qos):
    """The topic, then nothing, or half an identifier; small, and where the block ends."""
    for topic in ("t", "t" * BIG):
        for rest in (b"", b"\0"):
            sinner.later(packet(PUBLISH, qos << 1, string(topic) + rest), PUBLISH, TRUNCATED)
        sinner.later(packet(PUBLISH, qos << 1, string(topic) + b"\0\0"), PUBLISH, "the packet identifier is 0")


def test_subscribe_without_its_last_byte(sinner):
    """The QoS of the last filter is missing, at the very end of a block."""
    for filters in ([("t", 0)], [("t" * BIG, 0)], [("a" * 40_000, 0), ("b" * 40_000, 0)]):
        sinner.later(packet(SUBSCRIBE, 2, subscribe(1, *filters)[2 if len(filters[0][0]) == 1 else 4:-1]), SUBSCRIBE, TRUNCATED)


def test_lengths_of_five_bytes(sinner):
    for tail in (b"\x80\x80\x80\x80\x01", b"\xff\xff\xff\xff\x7f", b"\xff\xff\xff\xff\xff", b"\x80\x80\x80\x80\x00"):
        sinner.first(b"\x10" + tail, CONNECT, LENGTH)
        for kind in range(16):
            sinner.later(bytes([kind << 4 | flags_of(kind)]) + tail, kind, LENGTH)


def test_the_fourth_length_byte_is_enough(sinner):
    """The fifth need not come."""
    sinner.first(b"\x10\xff\xff\xff\xff", CONNECT, LENGTH)
    sinner.later(b"\x30\xff\xff\xff\xff", PUBLISH, LENGTH)


def test_lengths_longer_than_they_need_be(sinner):
    """Not forbidden in 3.1.1: 0 may be written as 80 80 00."""
    client = sinner.connected()
    client.send(b"\xc0\x80\x00", b"\xc0\x80\x80\x00", b"\xc0\x80\x80\x80\x00")
    for _ in range(3):
        client.expect(PINGRESP)
    client.close()


def test_a_string_longer_than_its_packet(sinner):
    """Every string's own length says more than there is: by one, and all it can say."""
    for n in (3, 100, 65535):
        field = struct.pack(">H", n) + b"ab"
        head = string("MQTT") + b"\4"
        for flags, fields in ((2, field), (6, string("c") + field), (6, string("c") + string("w") + field),
                              (0x82, string("c") + field), (0xc2, string("c") + string("u") + field)):
            at(sinner, CONNECT, packet(CONNECT, 0, head + bytes([flags]) + b"\0\0" + fields), TRUNCATED)
        at(sinner, CONNECT, packet(CONNECT, 0, field), TRUNCATED)
        sinner.later(packet(PUBLISH, 0, field), PUBLISH, TRUNCATED)
        sinner.later(packet(SUBSCRIBE, 2, ID + field), SUBSCRIBE, TRUNCATED)
        sinner.later(packet(SUBSCRIBE, 2, ID + string("a") + b"\0" + field), SUBSCRIBE, TRUNCATED)
        sinner.later(packet(UNSUBSCRIBE, 2, ID + string("a") + field), UNSUBSCRIBE, TRUNCATED)


# ---- what is announced is not what is allocated

TOO_LARGE = "it is larger than allowed here"


def test_256_megabytes_before_connect(sinner):
    memory = Memory(sinner.broker)
    for _ in range(200):
        sinner.first(b"\x10" + length(268435455) + connect("c")[2:], CONNECT, TOO_LARGE)
    for kind in (PUBLISH, SUBSCRIBE, 15):
        sinner.first(bytes([kind << 4]) + length(268435455), kind, NOT_FIRST)
    sinner.first(b"\x10" + length(128 * 1024), CONNECT, TOO_LARGE)
    memory.check(peak=2 * MB)


def test_256_megabytes_after_connect(sinner):
    memory = Memory(sinner.broker)
    for kind in range(16):
        sinner.later(bytes([kind << 4 | flags_of(kind)]) + length(268435455) + b"\0\1t" * 100, kind, TOO_LARGE)
    memory.check(peak=2 * MB)


# ---- strings

def test_empty_strings(sinner):
    """In each string field."""
    broker = sinner.broker
    broker.client().connect("", clean=False, expect=BAD_ID)
    broker.wait_log("refused: an empty client id needs CleanSession 1")
    at(sinner, CONNECT, connect("c", name=""), "the protocol name is not MQTT or MQIsdp")
    at(sinner, CONNECT, connect("c", will=Will("")), TOPIC)
    broker.connect("empty", user="", password="", will=Will("w", "")).disconnect()
    sinner.later(publish("", "x"), PUBLISH, TOPIC)
    sinner.later(publish("", "x", 1, mid=1), PUBLISH, TOPIC)
    sinner.later(subscribe(1, ("", 0)), SUBSCRIBE, FILTER)
    sinner.later(subscribe(1, ("a", 0), ("", 0)), SUBSCRIBE, FILTER)
    sinner.later(unsubscribe(1, ""), UNSUBSCRIBE, FILTER)


def test_the_longest_strings(sinner):
    """65,535 bytes in each string field, as the standard allows; they come through whole, and the log cuts them."""
    broker = sinner.broker
    text = "\u20ac" * (BIG // 3)
    assert len(text.encode()) == BIG
    watcher = broker.connect("watcher")
    watcher.subscribe((text, 2))
    for fields in ({"client_id": text}, {"user": text}, {"user": "u", "password": text}, {"will": Will(text)},
                   {"will": Will("w", text)}):
        client = broker.connect(**{"client_id": "c", **fields})
        client.ping()
        client.close()
        if fields.get("will", Will("")).topic == text:
            watcher.expect_message(text, "gone")
    client = broker.connect(text, clean=False)  # a session of that name is kept, found and dropped
    client.close()
    client = broker.client()
    assert client.connect(text, clean=False)
    client.publish(text, text, 2)
    watcher.expect_message(text, text, 2)
    client.unsubscribe(text)
    client.disconnect()
    broker.connect(text).disconnect()
    assert max(map(len, broker.log.splitlines())) < 2300


def test_connect_with_all_strings_at_their_longest(sinner):
    """320 KiB: more than a stranger is heard with, and it is said."""
    text = "x" * BIG
    client = sinner.stranger()
    data = connect(text, will=Will(text, text), user=text, password=text)
    sinner.sins(client, data, CONNECT, TOO_LARGE)


@pytest.mark.parametrize("n", [200, 201, BIG + 1])
def test_levels(sinner, n):
    """max_topic_levels is 200 here. A topic of 65,535 slashes is what brought others down; the answer is a reason."""
    broker, deep = sinner.broker, "/" * (n - 1)
    if n == 200:
        client = broker.connect("c", will=Will(deep))
        client.subscribe((deep, 2), (deep[:-1] + "#", 0), ("+" + deep, 0))
        for qos in (0, 1, 2):
            client.send(publish(deep, "x", qos, mid=qos))
        got = [client.next() for _ in range(5)]
        assert sorted(g.kind for g in got) == [PUBLISH] * 3 + [PUBACK, PUBREC]
        client.unsubscribe(deep)
        client.close()
        return
    for qos in (0, 1, 2):
        for retain in (False, True):
            sinner.later(publish(deep, "x", qos, retain, mid=1), PUBLISH, "its topic has too many levels")
    wild = "+/" * min(n - 1, 32000) + "+"
    for filters in ([(deep, 0)], [("ok", 0), (deep, 1)], [("/" * min(n - 1, BIG - 1) + "#", 0)], [(wild, 2)]):
        sinner.later(subscribe(1, *filters), SUBSCRIBE, "a filter has more levels than max_topic_levels")
    client = broker.connect("unsubscribes")  # nothing is stored for it, so it is nothing to refuse
    client.unsubscribe(deep)
    client.close()
    broker.client().connect("deep", will=Will(deep), expect=NOT_AUTHORISED)
    broker.wait_log(r"Client deep \[.*\] refused: its will's topic has too many levels")


# ---- topics that begin with $

def test_dollar_topics(sinner):
    """Nobody publishes to $SYS or $share, by will neither; other $ topics are topics, but a wildcard does not meet them
    at the first level."""
    broker = sinner.broker
    watcher = broker.connect("watcher")
    watcher.subscribe("#", "+/x", "$/#", "$x/#", "$share/g/t", "$SYS/x", "$SYS/broker/forged")
    client = broker.connect("c")
    for topic in ("$SYS", "$SYS/", "$SYS/x", "$SYS/broker/forged", "$SYSx", "$share/g/t"):
        for qos in (0, 1, 2):
            client.publish(topic, "forged", qos, retain=qos == 1)
        broker.connect("dies", will=Will(topic, retain=True)).close()
        broker.wait_log(rf"Denied the will of client dies on '{re.escape(topic)}'")
    client.publish("$/x", "ok", 1)
    client.publish("$x/y", "ok", 1)
    client.publish("end", "x", 1)
    got = []
    while not got or got[-1] != "end":
        topic = watcher.receive().topic
        if not topic.startswith("bystanders"):
            got.append(topic)
    assert got == ["$/x", "$x/y", "end"]
    late = broker.connect("late")
    late.subscribe("$SYS/x", "$SYS/broker/forged", "$share/g/t", "$SYSx/#")
    late.expect_nothing()
    for each in (watcher, client, late):
        each.close()


# ---- UTF-8

BROKEN = {
    "U+0000": b"\0",
    "overlong, 2 bytes": b"\xc0\x80", "overlong slash, 2 bytes": b"\xc0\xaf", "overlong a": b"\xc1\xa1",
    "overlong, 3 bytes": b"\xe0\x80\xaf", "overlong U+07FF": b"\xe0\x9f\xbf",
    "overlong, 4 bytes": b"\xf0\x80\x80\xaf", "overlong U+FFFF": b"\xf0\x8f\xbf\xbf",
    "5 bytes": b"\xf8\x88\x80\x80\x80", "6 bytes": b"\xfc\x84\x80\x80\x80\x80",
    "first surrogate": b"\xed\xa0\x80", "last surrogate": b"\xed\xbf\xbf", "pair of surrogates": b"\xed\xa0\xbd\xed\xb8\x80",
    "U+110000": b"\xf4\x90\x80\x80", "U+13FFFF": b"\xf4\xbf\xbf\xbf", "F5": b"\xf5\x80\x80\x80", "FE": b"\xfe", "FF": b"\xff",
    "continuation alone": b"\x80", "second continuation": b"\xc2\x80\x80",
    "cut, 2 bytes": b"\xc3", "cut, 3 bytes": b"\xe2\x82", "cut, 4 bytes": b"\xf0\x9f\x98",
}
PLACES = {"alone": b"%s", "at the end": b"abcdefgh%s", "before more": b"abc%sdef", "behind much": b"x" * 60000 + b"%s"}


@pytest.mark.parametrize("place", PLACES)
def test_strings_that_are_not_utf8(sinner, place):
    """Each ill-formed sequence, in each string field."""
    for wrong in BROKEN.values():
        text = PLACES[place].replace(b"%s", wrong)
        for fields in ({"client_id": text}, {"user": text}, {"will": Will(text)}, {"name": text}):
            at(sinner, CONNECT, connect(**{"client_id": "c", **fields}), UTF8)
        sinner.later(publish(text, "x"), PUBLISH, UTF8)
        sinner.later(publish(text, "x", 2, mid=1), PUBLISH, UTF8)
        sinner.later(subscribe(1, (text, 0)), SUBSCRIBE, UTF8)
        sinner.later(subscribe(1, ("a", 0), (text, 0), ("b", 0)), SUBSCRIBE, UTF8)
        sinner.later(unsubscribe(1, text), UNSUBSCRIBE, UTF8)


def test_binary_fields_take_anything(sinner):
    """Payloads and passwords are no strings."""
    broker, anything = sinner.broker, b"".join(BROKEN.values())
    client = broker.connect("c", user="u", password=anything, will=Will("will", anything))
    watcher = broker.connect("watcher")
    watcher.subscribe("t", "will")
    client.publish("t", anything, 1)
    watcher.expect_message("t", anything)
    client.close()
    watcher.expect_message("will", anything)
    watcher.close()
