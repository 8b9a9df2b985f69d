"""rawmqtt: MQTT 3.1.1 by hand, for tests that need to see and send every byte.

Packets are built by functions (connect(), publish(), ...) that return bytes, so a test can bend them. Client sends
them and takes packets in, one at a time; what it does not expect is an error. Nothing here waits for a fixed time: a
test waits for a packet, and TIMEOUT only bounds a wait that would never end.
"""

import struct
from dataclasses import dataclass, field

from streams import TIMEOUT, Closed

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 1, 2, 3, 4, 5, 6, 7
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = 8, 9, 10, 11, 12, 13, 14
NAMES = ("reserved CONNECT CONNACK PUBLISH PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE SUBACK UNSUBSCRIBE UNSUBACK "
         "PINGREQ PINGRESP DISCONNECT reserved").split()

ACCEPTED, BAD_LEVEL, BAD_ID, UNAVAILABLE, BAD_LOGIN, NOT_AUTHORISED = 0, 1, 2, 3, 4, 5
FAILURE = 0x80  # in a SUBACK


# ---- bytes ----------------------------------------------------------------------------------------------------------

def raw(data):
    return data.encode() if isinstance(data, str) else bytes(data)


def string(data):
    data = raw(data)
    return struct.pack(">H", len(data)) + data


def length(n):
    out = bytearray()
    while True:
        n, byte = divmod(n, 128)
        out.append(byte | (0x80 if n else 0))
        if not n:
            return bytes(out)


def packet(kind, flags, body=b""):
    return bytes([kind << 4 | flags]) + length(len(body)) + body


@dataclass
class Will:
    topic: str
    payload: bytes = b"gone"
    qos: int = 0
    retain: bool = False


def connect(client_id="", clean=True, keepalive=60, will=None, user=None, password=None, level=4, name=None, flags=None):
    """flags: those of CONNECT's byte 8, when they are not to be what the rest says."""
    if name is None:
        name = "MQIsdp" if level == 3 else "MQTT"
    bits = 2 if clean else 0
    body = string(client_id)
    if will:
        bits |= 4 | will.qos << 3 | (32 if will.retain else 0)
        body += string(will.topic) + string(will.payload)
    if user is not None:
        bits |= 128
        body += string(user)
    if password is not None:
        bits |= 64
        body += string(password)
    head = string(name) + bytes([level, bits if flags is None else flags]) + struct.pack(">H", keepalive)
    return packet(CONNECT, 0, head + body)


def publish(topic, payload=b"", qos=0, retain=False, mid=0, dup=False):
    body = string(topic) + (struct.pack(">H", mid) if qos else b"") + raw(payload)
    return packet(PUBLISH, (8 if dup else 0) | qos << 1 | (1 if retain else 0), body)


def ack(kind, mid):
    return packet(kind, 2 if kind == PUBREL else 0, struct.pack(">H", mid))


def subscribe(mid, *filters):
    """filters: (filter, qos) each."""
    return packet(SUBSCRIBE, 2, struct.pack(">H", mid) + b"".join(string(f) + bytes([q]) for f, q in filters))


def unsubscribe(mid, *filters):
    return packet(UNSUBSCRIBE, 2, struct.pack(">H", mid) + b"".join(string(f) for f in filters))


@dataclass
class Packet:
    kind: int
    flags: int
    body: bytes = field(repr=False)

    @property
    def qos(self):
        return self.flags >> 1 & 3

    @property
    def dup(self):
        return bool(self.flags & 8)

    @property
    def retain(self):
        return bool(self.flags & 1)

    @property
    def _topic_end(self):
        return 2 + struct.unpack_from(">H", self.body)[0]

    @property
    def topic(self):
        return self.body[2:self._topic_end].decode()

    @property
    def payload(self):
        return self.body[self._topic_end + (2 if self.qos else 0):]

    @property
    def mid(self):
        at = self._topic_end if self.kind == PUBLISH else 0
        return struct.unpack_from(">H", self.body, at)[0]

    def __str__(self):
        if self.kind == PUBLISH:
            mid = f" m{self.mid}" if self.qos else ""
            return (f"PUBLISH q{self.qos}{mid}{' dup' if self.dup else ''}{' retain' if self.retain else ''} "
                    f"{self.topic!r} {self.payload[:60]!r} ({len(self.payload)})")
        return f"{NAMES[self.kind]} flags {self.flags} {self.body[:60].hex(' ')}"


# ---- client ---------------------------------------------------------------------------------------------------------

class Client:
    """One connection. Its methods send a packet and, where MQTT has an answer, take that answer."""

    def __init__(self, stream):
        self.stream = stream
        self.buffer = bytearray()
        self.last_mid = 0
        self.released = set()  # of QoS 2 messages whose PUBREL will be answered by itself

    # bytes

    def send(self, *packets):
        """All in one piece."""
        self.stream.send(b"".join(packets))

    def _fill(self, n):
        while len(self.buffer) < n:
            data = self.stream.recv(max(65536, n - len(self.buffer)))
            if not data:
                raise Closed("the broker closed the connection")
            self.buffer += data

    def next(self):
        """The next packet; Closed at the end of the connection."""
        while True:
            got = self._next()
            if got.kind != PUBREL or got.mid not in self.released:
                return got
            self.released.discard(got.mid)
            self.send(ack(PUBCOMP, got.mid))

    def _next(self):
        size = shift = 0
        at = 1
        while True:
            self._fill(at + 1)
            size |= (self.buffer[at] & 127) << shift
            if not self.buffer[at] & 128:
                break
            shift += 7
            at += 1
            assert at < 5, f"a length of more than four bytes: {self.buffer[:8].hex(' ')}"
        end = at + 1 + size
        self._fill(end)
        got = Packet(self.buffer[0] >> 4, self.buffer[0] & 15, bytes(self.buffer[at + 1:end]))
        del self.buffer[:end]
        return got

    def expect(self, kind, mid=None):
        got = self.next()
        assert got.kind == kind, f"expected {NAMES[kind]}, got {got}"
        assert mid is None or got.mid == mid, f"expected identifier {mid}, got {got}"
        return got

    def expect_closed(self):
        """The broker closes, without another packet."""
        try:
            got = self.next()
        except (Closed, ConnectionError):
            return
        raise AssertionError(f"expected the end of the connection, got {got}")

    def expect_nothing(self):
        """No packet is on its way: the answer to a PINGREQ is the next one. What another client has published
        before with an answer (QoS 1 or 2) would have come first."""
        self.send(packet(PINGREQ, 0))
        got = self.next()
        assert got.kind == PINGRESP, f"expected nothing, got {got}"

    ping = expect_nothing

    # packets

    def mid(self):
        self.last_mid = self.last_mid % 65535 + 1
        return self.last_mid

    def connect(self, *args, expect=ACCEPTED, **kwargs):
        """Sends CONNECT; returns whether a session was present."""
        self.send(connect(*args, **kwargs))
        return self.connack(expect)

    def connack(self, expect=ACCEPTED):
        got = self.expect(CONNACK)
        assert len(got.body) == 2 and got.flags == 0, str(got)
        assert got.body[1] == expect, f"CONNACK code {got.body[1]}, expected {expect}"
        assert got.body[0] in (0, 1) and (not expect or got.body[0] == 0), str(got)
        if expect:
            self.expect_closed()
        return bool(got.body[0])

    def subscribe(self, *filters):
        """filters: text (at QoS 0) or (text, qos). Returns the return codes; retained messages come behind."""
        filters = [(f, 0) if isinstance(f, (str, bytes)) else f for f in filters]
        mid = self.mid()
        self.send(subscribe(mid, *filters))
        got = self.expect(SUBACK, mid)
        assert got.flags == 0 and len(got.body) == 2 + len(filters)
        return list(got.body[2:])

    def unsubscribe(self, *filters):
        mid = self.mid()
        self.send(unsubscribe(mid, *filters))
        assert len(self.expect(UNSUBACK, mid).body) == 2

    def publish(self, topic, payload=b"", qos=0, retain=False):
        """With QoS 1 and 2 the whole exchange."""
        mid = self.mid() if qos else 0
        self.send(publish(topic, payload, qos, retain, mid))
        if qos == 1:
            self.expect(PUBACK, mid)
        elif qos == 2:
            self.expect(PUBREC, mid)
            self.send(ack(PUBREL, mid))
            self.expect(PUBCOMP, mid)

    def receive(self, acknowledge=True):
        """The next packet, which is a PUBLISH; it is acknowledged, whatever its QoS. Of QoS 2 the second half is done
        while the client waits for something else."""
        got = self.expect(PUBLISH)
        if acknowledge and got.qos == 1:
            self.send(ack(PUBACK, got.mid))
        elif acknowledge and got.qos == 2:
            self.released.add(got.mid)
            self.send(ack(PUBREC, got.mid))
        return got

    def expect_message(self, topic, payload=None, qos=None, retain=None, dup=None, acknowledge=True):
        got = self.receive(acknowledge)
        wanted = (topic, got.payload if payload is None else raw(payload), got.qos if qos is None else qos,
                  got.retain if retain is None else retain, got.dup if dup is None else dup)
        assert (got.topic, got.payload, got.qos, got.retain, got.dup) == wanted, str(got)
        return got

    def topics(self, count):
        """The topics of the next messages."""
        return [self.receive().topic for _ in range(count)]

    def disconnect(self):
        """DISCONNECT, and the broker's end."""
        self.send(packet(DISCONNECT, 0))
        self.expect_closed()
        self.stream.close()

    def close(self):
        """Without DISCONNECT."""
        self.stream.close()

    def lose(self):
        """Without DISCONNECT, and returns when the broker has noticed: it has closed its side too."""
        self.stream.end_output()
        try:
            while self.stream.recv(65536):
                pass
        except ConnectionError:
            pass
        self.stream.close()

    def reset(self):
        """Breaks the connection (RST where there is TCP)."""
        self.stream.reset()


__all__ = [name for name in globals() if not name.startswith("_")] + ["TIMEOUT"]
