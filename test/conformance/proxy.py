"""proxy: stands between a test and the broker, and breaks what it is told to break.

It is a stream over a stream, like all of streams.py: a Client on top, the connection to the broker below. So it needs no
thread, and it knows exactly what has happened when the client waits. Everything that passes is cut into packets (Mqtt), or
below a WebSocket into its head and its frames (Web), and shown to the rules of a Breaker; what no rule changes goes on as
the very bytes that came. Without rules (Breaker()) it has to be unnoticeable, which the tcp run of every test shows.

A Breaker lives for one run of one test and is shared by all connections of that run. Once it has broken something
(broken > 0) the proxy waits for SHORT only: time-outs are then what a test may well end with. Before that it is as patient as
ever, so a slow machine does not make a test fail before its broker is broken. Where the end of the connection is held back,
nothing can ever come any more, and the wait ends at once.
"""

from dataclasses import dataclass, field
from typing import Callable, Optional

import rawmqtt
from streams import TIMEOUT

SHORT = 0.5
UP, DOWN, END = "to the broker", "to the client", "the broker's end"


# ---- cutting ---------------------------------------------------------------------------------------------------------

class Mqtt:
    """Packets. take() gives (bytes, packet) from the front of a buffer, None when there is no whole one; packet is None
    when the bytes are none and never will be."""

    def take(self, _side, buffer):
        size = 0
        for at in range(1, 5):
            if at >= len(buffer):
                return None
            size |= (buffer[at] & 127) << 7 * (at - 1)
            if not buffer[at] & 128:
                end = at + 1 + size
                if end > len(buffer):
                    return None
                data = bytes(buffer[:end])
                return data, rawmqtt.Packet(data[0] >> 4, data[0] & 15, data[at + 1:])
        return bytes(buffer), None

    def put(self, _side, packet):
        return rawmqtt.packet(packet.kind, packet.flags, packet.body)


HEAD = "the head"


@dataclass
class Frame:
    """Of a WebSocket. With HEAD as kind: the HTTP that comes before the frames, body is all of it."""
    kind: object
    body: bytes
    flags: int = 8  # the high half of the first byte: FIN is 8


class Web:
    """The head of each direction, then frames; those of the client are unmasked on the way in and masked with zeroes on
    the way out."""

    def __init__(self):
        self.headed = set()

    def take(self, side, buffer):
        if side not in self.headed:
            end = buffer.find(b"\r\n\r\n") + 4
            if end < 4:
                return None
            self.headed.add(side)
            return bytes(buffer[:end]), Frame(HEAD, bytes(buffer[:end]))
        if len(buffer) < 2:
            return None
        size, at = buffer[1] & 127, 2
        if size >= 126:
            at = 4 if size == 126 else 10
            size = int.from_bytes(buffer[2:at], "big")
        masked = bool(buffer[1] & 128)
        body = at + 4 * masked
        if len(buffer) < body + size:
            return None
        data = bytes(buffer[body:body + size])
        if masked:
            mask = bytes(buffer[at:body])
            data = bytes(byte ^ mask[i & 3] for i, byte in enumerate(data))
        return bytes(buffer[:body + size]), Frame(buffer[0] & 15, data, buffer[0] >> 4)

    def put(self, side, frame):
        if frame.kind == HEAD:
            return frame.body
        bit = 0x80 if side == UP else 0
        n = len(frame.body)
        head = bytes([frame.flags << 4 | frame.kind])
        head += bytes([bit | n]) if n < 126 else bytes([bit | 126]) + n.to_bytes(2, "big")
        return head + (bytes(4) if bit else b"") + frame.body


# ---- breaking --------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Rule:
    """What to do with the packets of a kind in one direction: do(link, packet, held) gives those that go on instead. On the
    side END do(link) gives packets that come before the end of the connection; without do there is no end."""
    side: str
    kind: object  # None: any
    do: Optional[Callable] = None
    skip: int = 0  # so many of those that fit pass first
    times: Optional[int] = None  # then so many are broken; None: all
    on: Optional[int] = None  # only on the connection with this number: 0 is the first of the test
    when: Optional[Callable] = None  # only packets of which this is true

    def fits(self, link, packet):
        return ((self.on is None or self.on == link.number) and (self.kind is None or self.kind == packet.kind) and
                (self.when is None or self.when(packet)))


@dataclass
class Memory:
    """Of a rule, for one run."""
    seen: int = 0
    held: dict = field(default_factory=dict)  # for the rule's own use, by link

    def counts(self, rule):
        self.seen += 1
        return rule.skip < self.seen and (rule.times is None or self.seen <= rule.skip + rule.times)


class Breaker:
    def __init__(self, *rules):
        self.rules = [(rule, Memory()) for rule in rules]
        self.broken = 0
        self.links = 0

    def watches(self, side):
        return any(rule.side == side for rule, _ in self.rules)

    def pass_on(self, link, side, packet):
        """The packets that go on in the place of this one. Each rule sees what the rules before it have left."""
        packets = [packet]
        for rule, memory in self.rules:
            if rule.side == side:
                packets = [out for p in packets for out in self._apply(rule, memory, link, p)]
        return packets

    def _apply(self, rule, memory, link, packet):
        if not rule.fits(link, packet) or not memory.counts(rule):
            return [packet]
        self.broken += 1
        try:
            return list(rule.do(link, packet, memory.held))
        except (AssertionError, OSError) as error:  # its own mistake, which must not look like the test's failure
            raise RuntimeError(f"the breaker itself failed: {error}") from error

    def end(self, link):
        """The broker has closed: (packets that come first, whether the end is passed on)."""
        for rule, memory in self.rules:
            if rule.side == END and rule.fits(link, None) and memory.counts(rule):
                self.broken += 1
                return (rule.do(link), True) if rule.do else ([], False)
        return [], True


class Proxy:
    """One connection. bench: what a rule may use to act on its own; kind: Mqtt or Web."""

    def __init__(self, below, breaker, bench=None, kind=Mqtt):
        self.below = below
        self.breaker = breaker
        self.bench = bench
        self.number = breaker.links
        breaker.links += 1
        self.codec = kind()
        self.partial = {UP: bytearray(), DOWN: bytearray()}
        self.out = bytearray()
        self.wait = TIMEOUT
        self.leaving = self.silent = self.ended = False

    def _through(self, side, data):
        buffer = self.partial[side]
        buffer += data
        out = []
        while buffer:
            took = self.codec.take(side, buffer)
            if took is None:
                break
            data, packet = took
            del buffer[:len(data)]
            if packet is None:
                out.append(data)
            else:
                out += [data if p is packet else self.codec.put(side, p)
                        for p in self.breaker.pass_on(self, side, packet)]
        return b"".join(out)

    def send(self, data):
        if self.breaker.watches(UP):
            data = self._through(UP, data)
        if data and not self.silent:
            self.below.send(data)

    def end(self):
        """For a rule: the client gets what has come so far and then the end of the connection."""
        self.ended = True

    def _read(self):
        """More from below into out; False at the end."""
        self.below.patience(SHORT if self.breaker.broken else self.wait)
        try:
            data = self.below.recv(65536)
        except ConnectionError:
            if self.leaving or not self._broken_end():
                raise
            return True
        if data:
            self.out += self._through(DOWN, data)
            return True
        self.out += bytes(self.partial[DOWN])
        self.partial[DOWN].clear()
        return not self.leaving and self._broken_end()

    def _broken_end(self):
        """Whether the client is not to see the end now."""
        packets, passed_on = self.breaker.end(self)
        self.out += b"".join(self.codec.put(DOWN, p) for p in packets)
        self.silent = not passed_on
        return bool(packets) or self.silent

    def recv(self, n):
        while not self.out:
            if self.silent:
                raise TimeoutError("timed out (the end of the connection was held back)")
            if self.ended or not self._read():
                self.ended = True
                break
        data = bytes(self.out[:n])
        del self.out[:n]
        return data

    def patience(self, seconds):
        self.wait = seconds

    def end_output(self):
        self.leaving = True
        self.below.end_output()

    def close(self):
        self.below.close()

    def reset(self):
        self.below.reset()
