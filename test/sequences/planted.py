"""planted: the daemon with a fault, to show that the model finds it.

Two ways to plant one: the daemon gets a configuration that the script does not speak of (CONFIGURED), or a proxy stands
between clients and daemon (FAULTS) and makes of what both say something that only a faulty broker could have said. Where
the proxy swallows a message it acknowledges it, where it swallows an acknowledgement it remembers whose it was: the
daemon behind it is never the one to blame.

A fault sees whole packets: up(pipe, packet) and down(pipe, packet) return the packets to pass on; chunk() sees all that
came from the daemon at a time. A Pipe is one client connection with its other half.
"""

import selectors
import socket
import struct
import threading
from collections import defaultdict

import rawmqtt
import streams
from bramble import Broker, free_port
from rawmqtt import (CONNACK, CONNECT, DISCONNECT, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK, SUBSCRIBE, UNSUBACK,
                     UNSUBSCRIBE, Packet)


def encode(packet):
    return rawmqtt.packet(packet.kind, packet.flags, packet.body)


def ack(kind, mid):
    return Packet(kind, 2 if kind == PUBREL else 0, struct.pack(">H", mid))


def changed(packet, flags=None, mid=None):
    """A PUBLISH with other flags or another identifier."""
    body = packet.body
    if mid is not None:
        end = 2 + struct.unpack_from(">H", body)[0]
        body = body[:end] + struct.pack(">H", mid) + body[end + 2:]
    return Packet(packet.kind, packet.flags if flags is None else flags, body)


def filters_of(packet):
    """Of SUBSCRIBE: [(filter, qos)], of UNSUBSCRIBE: [filter]."""
    at, found = 2, []
    while at < len(packet.body):
        size = struct.unpack_from(">H", packet.body, at)[0]
        name = packet.body[at + 2:at + 2 + size].decode()
        at += 2 + size
        if packet.kind == SUBSCRIBE:
            found.append((name, packet.body[at]))
            at += 1
        else:
            found.append(name)
    return found


def parsed(data):
    """(packets, bytes left over)"""
    packets = []
    while len(data) >= 2:
        size = at = 0
        for at in range(1, min(5, len(data))):
            size |= (data[at] & 127) << 7 * (at - 1)
            if not data[at] & 128:
                break
        if data[at] & 128 or len(data) < at + 1 + size:
            break
        packets.append(Packet(data[0] >> 4, data[0] & 15, bytes(data[at + 1:at + 1 + size])))
        data = data[at + 1 + size:]
    return packets, data


class Pipe:
    def __init__(self, proxy, client, broker):
        self.proxy = proxy
        self.client, self.broker = client, broker
        self.rest = {client: b"", broker: b""}
        self.name = None
        self.clean = False
        self.resumed = None              # what CONNACK said
        self.swallow = defaultdict(int)  # (kind, identifier): so many of these from the daemon are for us
        self.seen = set()                # whatever a fault wants to know of this connection
        self.deaf = False                # the daemon's end is not passed on

    def to_client(self, *packets):
        self._send(self.client, packets)

    def to_broker(self, *packets):
        self._send(self.broker, packets)

    @staticmethod
    def _send(sock, packets):
        try:
            sock.sendall(b"".join(p if isinstance(p, bytes) else encode(p) for p in packets))
        except OSError:
            pass  # its end comes by reading


class Fault:
    """None: passes on what comes."""

    kinds = ()  # what Wrong.kind may be when it is found

    def __init__(self):
        self.memory = defaultdict(dict)  # of each client id
        self.count = 0

    def nth(self, n):
        self.count += 1
        return self.count % n == 0

    def up(self, pipe, packet):
        return [packet]

    def down(self, pipe, packet):
        return [packet]

    def chunk(self, pipe, packets):
        return [out for packet in packets for out in self.down(pipe, packet)]

    def lost(self, pipe, partial):
        """The client is gone; partial: the start of a packet. Returns bytes for the daemon."""
        return partial

    def take(self, pipe, packet):
        """Takes a message of the daemon as if the client had."""
        if packet.qos == 1:
            pipe.to_broker(ack(PUBACK, packet.mid))
        if packet.qos == 2:
            pipe.to_broker(ack(PUBREC, packet.mid))
            pipe.swallow[PUBREL, packet.mid] += 1
        return []


class Proxy(threading.Thread):
    """All connections on one thread, which ends with stop()."""

    def __init__(self, port, fault):
        super().__init__(daemon=True)
        self.fault = fault
        self.target = port
        self.port = free_port()
        self.door = socket.create_server(("127.0.0.1", self.port))
        self.bell, self.ring = socket.socketpair()
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.door, selectors.EVENT_READ)
        self.selector.register(self.bell, selectors.EVENT_READ)
        self.pipes = []

    def stop(self):
        self.ring.send(b"x")
        self.join()

    def run(self):
        while True:
            for key, _ in self.selector.select():
                if key.fileobj is self.bell:
                    return self.end()
                if key.fileobj is self.door:
                    self.accept()
                elif key.fileobj.fileno() >= 0:
                    self.readable(key.data, key.fileobj)

    def end(self):
        for sock in {s for p in self.pipes for s in (p.client, p.broker)} | {self.door, self.bell, self.ring}:
            sock.close()
        self.selector.close()

    def accept(self):
        client, _ = self.door.accept()
        broker = socket.create_connection(("127.0.0.1", self.target))
        pipe = Pipe(self, client, broker)
        self.pipes.append(pipe)
        for sock in (client, broker):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.selector.register(sock, selectors.EVENT_READ, pipe)

    def readable(self, pipe, sock):
        broken = False
        try:
            data = sock.recv(65536)
        except OSError:
            data, broken = b"", True
        if not data:
            (self.client_gone if sock is pipe.client else self.broker_gone)(pipe, broken)
            return
        packets, pipe.rest[sock] = parsed(pipe.rest[sock] + data)
        if sock is pipe.client:
            for packet in packets:
                self.up(pipe, packet)
        else:
            out = self.fault.chunk(pipe, self.meant_for_client(pipe, packets))
            if out:
                pipe.to_client(*out)

    def up(self, pipe, packet):
        if packet.kind == CONNECT:
            pipe.clean = bool(packet.body[7] & 2)
            pipe.name = packet.body[12:12 + struct.unpack_from(">H", packet.body, 10)[0]].decode()
        out = self.fault.up(pipe, packet)
        if out:
            pipe.to_broker(*out)

    def meant_for_client(self, pipe, packets):
        for packet in packets:
            if packet.kind == CONNACK:
                pipe.resumed = bool(packet.body[0])
                if not pipe.resumed:
                    self.fault.memory.pop(pipe.name, None)
            mid = struct.unpack_from(">H", packet.body)[0] if len(packet.body) == 2 and packet.kind != CONNACK else None
            if pipe.swallow[packet.kind, mid]:
                pipe.swallow[packet.kind, mid] -= 1
                if packet.kind == PUBREL:
                    pipe.to_broker(ack(PUBCOMP, mid))
            else:
                yield packet

    def client_gone(self, pipe, broken):
        self.selector.unregister(pipe.client)
        last = self.fault.lost(pipe, pipe.rest[pipe.client])
        if last:
            pipe.to_broker(last)
        if broken and not last:
            self.close(pipe.broker, broken)
        else:
            try:
                pipe.broker.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        pipe.gone = True

    def broker_gone(self, pipe, broken):
        self.close(pipe.broker, broken)
        if not pipe.deaf:
            self.close(pipe.client, broken)

    def close(self, sock, broken):
        if sock.fileno() < 0:
            return
        try:
            self.selector.unregister(sock)
        except KeyError:
            pass
        if broken:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()


def planted(fault=Fault, more=""):
    """A class to be used instead of Broker: clients of scripts go through the fault, over TCP whatever they ask for."""

    class PlantedBroker(Broker):
        def start(self, wait=True):
            super().start(wait)
            self.proxy = Proxy(self.ports["tcp"], fault())
            self.proxy.start()
            return self

        def configure(self, config):
            said = {line.split()[0] for line in more.splitlines()}
            kept = "".join(line + "\n" for line in config.splitlines() if line.split()[0] not in said)
            super().configure(kept + more)

        def script_stream(self, _transport):
            return streams.tcp(self.proxy.port)

        def stop(self):
            self.proxy.stop()
            super().stop()

    return PlantedBroker


# ---- faults of the side that takes messages ----

class LosesAcknowledged(Fault):
    """Acknowledges a QoS 1 message and does not pass it on."""
    kinds = ("missing",)

    def up(self, pipe, packet):
        if packet.kind == PUBLISH and packet.qos == 1 and self.nth(4):  # to where nobody listens
            return [rawmqtt.publish("$nowhere", packet.payload, 1, False, packet.mid)]
        return [packet]


class ForgetsInboundId(Fault):
    """Takes a QoS 2 PUBLISH that is sent again for a new one."""
    kinds = ("duplicate", "retained")

    def up(self, pipe, packet):
        if packet.kind == PUBLISH and packet.qos == 2 and packet.dup:
            pipe.swallow[PUBCOMP, packet.mid] += 1
            return [ack(PUBREL, packet.mid), packet]
        return [packet]


class NeverForgetsInboundId(Fault):
    """Takes a new QoS 2 PUBLISH for one sent again, when its identifier was used before."""
    kinds = ("missing",)

    def up(self, pipe, packet):
        used = self.memory[pipe.name]
        if packet.kind == PUBLISH and packet.qos == 2:
            if packet.mid in used and not packet.dup and used[packet.mid] == "free":
                used[packet.mid] = "taken"
                pipe.to_client(ack(PUBREC, packet.mid))
                return []
            used.setdefault(packet.mid, "first")
        if packet.kind == PUBREL:
            used[struct.unpack(">H", packet.body)[0]] = "free"
        return [packet]


class RoutesHalves(Fault):
    """Passes on a PUBLISH that was cut in its payload."""
    kinds = ("cut", "duplicate", "missing", "qos", "unexpected")

    def lost(self, pipe, partial):
        if len(partial) > 2 and partial[0] >> 4 == PUBLISH and b":" in partial:
            packets = []
            while not packets and len(partial) < 6000:
                partial += b"."
                packets, _ = parsed(partial)
            return partial
        return b""


class RoutesQos0Twice(Fault):
    kinds = ("duplicate",)

    def up(self, pipe, packet):
        return [packet, packet] if packet.kind == PUBLISH and packet.qos == 0 else [packet]


class AcknowledgesTwice(Fault):
    kinds = ("answer",)

    def down(self, pipe, packet):
        return [packet, packet] if packet.kind == PUBACK else [packet]


class SwapsAcknowledgements(Fault):
    kinds = ("answer",)

    def chunk(self, pipe, packets):
        packets = list(packets)
        for i in range(len(packets) - 1):
            if packets[i].kind == packets[i + 1].kind == PUBACK:
                packets[i], packets[i + 1] = packets[i + 1], packets[i]
        return packets


class ForgetsPubcomp(Fault):
    """Does not answer a PUBREL that is sent again."""
    kinds = ("unanswered",)

    def up(self, pipe, packet):
        if packet.kind == PUBREL:
            if packet.body in pipe.proxy.fault.memory[pipe.name] and packet.body not in pipe.seen:
                return []
            pipe.proxy.fault.memory[pipe.name][packet.body] = True
            pipe.seen.add(packet.body)
        return [packet]


# ---- retained messages ----

class KeepsCleared(Fault):
    """Does not clear what is retained."""
    kinds = ("retained",)

    def up(self, pipe, packet):
        if packet.kind == PUBLISH and packet.retain and not packet.payload:
            return [changed(packet, flags=packet.flags & ~1)]
        return [packet]


class KeepsTheFirst(Fault):
    """Does not replace what is retained."""
    kinds = ("retained",)

    def up(self, pipe, packet):
        if packet.kind == PUBLISH and packet.retain and packet.payload:
            if packet.topic in self.memory["topics"]:
                return [changed(packet, flags=packet.flags & ~1)]
            self.memory["topics"][packet.topic] = True
        return [packet]


class RetainsWithoutRetain(Fault):
    """Retains every message."""
    kinds = ("retained",)

    def up(self, pipe, packet):
        return [changed(packet, flags=packet.flags | 1)] if packet.kind == PUBLISH else [packet]


class SendsNoRetained(Fault):
    kinds = ("retained",)

    def down(self, pipe, packet):
        if packet.kind == PUBLISH and packet.retain and self.nth(3):
            return self.take(pipe, packet)
        return [packet]


class DropsRetainFlag(Fault):
    kinds = ("retained", "duplicate", "unexpected")

    def down(self, pipe, packet):
        return [changed(packet, flags=packet.flags & ~1)] if packet.kind == PUBLISH else [packet]


class LeavesRetainFlag(Fault):
    """RETAIN 1 also for those who had subscribed before [MQTT-3.3.1-9]."""
    kinds = ("missing",)

    def up(self, pipe, packet):
        if packet.kind == PUBLISH and packet.retain:
            self.memory["payloads"][packet.payload] = True
        return [packet]

    def down(self, pipe, packet):
        if packet.kind == PUBLISH and packet.payload and packet.payload in self.memory["payloads"]:
            return [changed(packet, flags=packet.flags | 1)]
        return [packet]


# ---- faults of the side that delivers ----

class LosesOnTakeover(Fault):
    """The first QoS 1 message that should be sent again after a resume is not."""
    kinds = ("missing", "window")

    def down(self, pipe, packet):
        if packet.kind == PUBLISH and pipe.resumed and packet.qos == 1 and packet.dup and "lost" not in pipe.seen:
            pipe.seen.add("lost")
            return self.take(pipe, packet)
        return [packet]


class LosesQueued(Fault):
    """What came while nobody was connected is lost."""
    kinds = ("missing",)

    def down(self, pipe, packet):
        if packet.kind == PUBLISH and pipe.resumed and packet.qos and not packet.dup and "lost" not in pipe.seen:
            pipe.seen.add("lost")
            return self.take(pipe, packet)
        return [packet]


class LosesQos0(Fault):
    """Although the subscriber is there and reads."""
    kinds = ("missing",)

    def down(self, pipe, packet):
        if packet.kind == PUBLISH and packet.qos == 0 and self.nth(5):
            return []
        return [packet]


class SendsWithoutDup(Fault):
    kinds = ("dup",)

    def down(self, pipe, packet):
        return [changed(packet, flags=packet.flags & ~8)] if packet.kind == PUBLISH else [packet]


class SendsWithDup(Fault):
    """DUP as the publisher had it, or for no reason."""
    kinds = ("dup",)

    def down(self, pipe, packet):
        return [changed(packet, flags=packet.flags | 8)] if packet.kind == PUBLISH and packet.qos else [packet]


class AgainAfterPubrec(Fault):
    """A resume brings the PUBLISH back when only PUBREL may come."""
    kinds = ("again", "answer")

    def down(self, pipe, packet):
        sent = self.memory[pipe.name]
        if packet.kind == PUBLISH and packet.qos == 2:
            sent[packet.mid] = packet
            pipe.seen.add(packet.mid)
        if packet.kind == PUBREL:
            mid = struct.unpack(">H", packet.body)[0]
            if mid not in pipe.seen and mid in sent:
                pipe.seen.add(mid)
                return [changed(sent[mid], flags=sent[mid].flags | 8), packet]
        return [packet]


class AgainAfterPuback(Fault):
    kinds = ("again", "duplicate", "dup")

    def down(self, pipe, packet):
        if packet.kind == PUBLISH and packet.qos == 1:
            self.memory[pipe.name][struct.pack(">H", packet.mid)] = packet
        return [packet]

    def up(self, pipe, packet):
        if packet.kind == PUBACK and packet.body in self.memory[pipe.name] and self.nth(5):
            pipe.to_client(changed(self.memory[pipe.name][packet.body], flags=10))
        return [packet]


class OtherIdAgain(Fault):
    """Sent again, but with another identifier [MQTT-4.4.0-1]."""
    kinds = ("duplicate", "dup", "window")

    def down(self, pipe, packet):
        if packet.kind == PUBLISH and packet.qos == 1 and packet.dup:
            return [changed(packet, mid=packet.mid + 1000)]
        return [packet]

    def up(self, pipe, packet):
        if packet.kind == PUBACK:
            mid = struct.unpack(">H", packet.body)[0]
            return [ack(PUBACK, mid % 1000)]
        return [packet]


class IdInUse(Fault):
    """All QoS 1 messages have the same identifier."""
    kinds = ("id", "again", "missing")

    def down(self, pipe, packet):
        if packet.kind == PUBLISH and packet.qos == 1:
            self.memory[pipe.name].setdefault("ids", []).append(packet.mid)
            return [changed(packet, mid=777)]
        return [packet]

    def up(self, pipe, packet):
        ids = self.memory[pipe.name].get("ids")
        return [ack(PUBACK, ids.pop(0))] if packet.kind == PUBACK and ids else [packet]


class SwapsMessages(Fault):
    """Two messages of one topic and QoS change places."""
    kinds = ("order",)
    dup = False

    def chunk(self, pipe, packets):
        packets = list(packets)
        for i in range(len(packets) - 1):
            a, b = packets[i], packets[i + 1]
            if a.kind == b.kind == PUBLISH and not a.retain and (a.topic, a.flags) == (b.topic, b.flags) and a.qos \
                    and a.dup == self.dup:
                packets[i], packets[i + 1] = b, a
        return packets


class SwapsAgain(SwapsMessages):
    """...when they are sent again [MQTT-4.6.0-1]."""
    kinds = ("again", "order")
    dup = True


class AcknowledgesForClient(Fault):
    """Takes a QoS 1 message for delivered when it is sent."""
    kinds = ("window", "missing")

    def down(self, pipe, packet):
        if packet.kind == PUBLISH and packet.qos == 1:
            pipe.to_broker(ack(PUBACK, packet.mid))
        return [packet]

    def up(self, pipe, packet):
        return [] if packet.kind == PUBACK else [packet]


class LowersQos(Fault):
    """QoS 2 becomes QoS 1."""
    kinds = ("qos", "again")

    def down(self, pipe, packet):
        if packet.kind == PUBLISH and packet.qos == 2:
            self.memory[pipe.name][packet.mid] = True
            return [changed(packet, flags=packet.flags & ~6 | 2)]
        if packet.kind == PUBREL:
            pipe.to_broker(ack(PUBCOMP, struct.unpack(">H", packet.body)[0]))
            return []
        return [packet]

    def up(self, pipe, packet):
        if packet.kind == PUBACK and self.memory[pipe.name].pop(struct.unpack(">H", packet.body)[0], False):
            return [Packet(PUBREC, 0, packet.body)]
        return [packet]


class DeliversQos0Twice(Fault):
    kinds = ("duplicate", "retained")

    def down(self, pipe, packet):
        return [packet, packet] if packet.kind == PUBLISH and packet.qos == 0 else [packet]


# ---- sessions ----

class SessionNeverPresent(Fault):
    kinds = ("present", "again", "dup", "answer", "duplicate")

    def down(self, pipe, packet):
        return [Packet(CONNACK, 0, b"\0\0")] if packet.kind == CONNACK else [packet]


class SessionAlwaysPresent(Fault):
    kinds = ("present",)

    def down(self, pipe, packet):
        return [Packet(CONNACK, 0, b"\0\0" if pipe.clean else b"\1\0")] if packet.kind == CONNACK else [packet]


def with_clean(packet, clean):
    body = bytearray(packet.body)
    body[7] = body[7] & ~2 | (2 if clean else 0)
    return Packet(CONNECT, 0, bytes(body))


class CleanIsKept(Fault):
    """Takes up the old session for a client that wanted none of it."""
    kinds = ("unexpected", "duplicate", "dup", "present", "id", "answer", "missing")

    def up(self, pipe, packet):
        return [with_clean(packet, False)] if packet.kind == CONNECT else [packet]

    def down(self, pipe, packet):
        return [Packet(CONNACK, 0, b"\0\0")] if packet.kind == CONNACK and pipe.clean else [packet]


class KeptIsClean(Fault):
    kinds = ("present",)

    def up(self, pipe, packet):
        return [with_clean(packet, True)] if packet.kind == CONNECT else [packet]


class ForgetsSubscriptions(Fault):
    """A resumed session has lost its subscriptions."""
    kinds = ("missing", "qos")

    def up(self, pipe, packet):
        if packet.kind == SUBSCRIBE:
            self.memory[pipe.name].update((f, True) for f, _ in filters_of(packet))
        return [packet]

    def down(self, pipe, packet):
        known = self.memory.get(pipe.name)
        if packet.kind == CONNACK and pipe.resumed and known:
            pipe.to_broker(rawmqtt.unsubscribe(65535, *known))
            pipe.swallow[UNSUBACK, 65535] += 1
        return [packet]


class LeavesOldConnection(Fault):
    """A takeover does not close the older connection [MQTT-3.1.4-2]."""
    kinds = ("silent",)
    patience = 1

    def up(self, pipe, packet):
        pipe.deaf = True
        return [packet]


# ---- wills ----

class WillAfterDisconnect(Fault):
    kinds = ("will",)

    def up(self, pipe, packet):
        return [] if packet.kind == DISCONNECT else [packet]


class NoWill(Fault):
    kinds = ("missing",)

    def lost(self, pipe, partial):
        return encode(Packet(DISCONNECT, 0, b"")) if not partial and pipe.name else partial


class NoWillOnTakeover(Fault):
    kinds = ("missing",)

    def up(self, pipe, packet):
        if packet.kind == CONNECT:
            for other in pipe.proxy.pipes:
                if other is not pipe and other.name == pipe.name and other.broker.fileno() >= 0:
                    other.to_broker(Packet(DISCONNECT, 0, b""))
        return [packet]


# ---- subscriptions ----

class DeliversAfterUnsuback(Fault):
    kinds = ("unexpected", "qos")

    def up(self, pipe, packet):
        if packet.kind == UNSUBSCRIBE and pipe.resumed is not None:
            pipe.to_client(Packet(UNSUBACK, 0, packet.body[:2]))
            return []
        return [packet]


class KeepsOldQos(Fault):
    """A SUBSCRIBE for a filter that is there changes nothing, nor does it bring what is retained [MQTT-3.8.4-3]."""
    kinds = ("qos", "missing", "unexpected")

    def up(self, pipe, packet):
        if packet.kind == SUBSCRIBE:
            wanted = filters_of(packet)
            known = self.memory[pipe.name]
            if pipe.resumed is not None and all(f in known for f, _ in wanted):
                pipe.to_client(Packet(SUBACK, 0, packet.body[:2] + bytes(q for _, q in wanted)))
                return []
            known.update((f, True) for f, _ in wanted)
        if packet.kind == UNSUBSCRIBE:
            for f in filters_of(packet):
                self.memory[pipe.name].pop(f, None)
        return [packet]


class MatchesTooMuch(Fault):
    """The last level of a filter does not count."""
    kinds = ("unexpected", "retained", "qos", "duplicate")

    @staticmethod
    def wide(filter_):
        head, slash, last = filter_.rpartition("/")
        return filter_ if last == "#" or not slash else head + "/+"

    def up(self, pipe, packet):
        mid = struct.unpack_from(">H", packet.body)[0] if packet.kind in (SUBSCRIBE, UNSUBSCRIBE) else 0
        if packet.kind == SUBSCRIBE:
            return [rawmqtt.subscribe(mid, *((self.wide(f), q) for f, q in filters_of(packet)))]
        return [packet]


class WildcardMatchesDollar(Fault):
    """# matches topics that begin with $ [MQTT-4.7.2-1]."""
    kinds = ("unexpected", "retained", "qos")

    def up(self, pipe, packet):
        if packet.kind == SUBSCRIBE:
            filters = filters_of(packet)
            if ("#", 2) in filters or ("#", 1) in filters or ("#", 0) in filters:
                pipe.seen.add(packet.body[:2])
                return [rawmqtt.subscribe(struct.unpack_from(">H", packet.body)[0], *filters, ("$a/#", 2))]
        return [packet]

    def down(self, pipe, packet):
        if packet.kind == SUBACK and packet.body[:2] in pipe.seen:
            pipe.seen.discard(packet.body[:2])
            return [Packet(SUBACK, 0, packet.body[:-1])]
        return [packet]


FAULTS = [fault for fault in list(globals().values()) if isinstance(fault, type) and issubclass(fault, Fault)
          and fault is not Fault]

# What the script does not say, and which kinds of Wrong it brings.
CONFIGURED = {
    "max_inflight_messages 40\n": ("window",),
    "max_queued_messages 2\n": ("missing", "retained"),
    "max_queued_messages 0\n": ("limit",),
    "queue_qos0_messages true\n": ("unexpected", "retained"),
    "upgrade_outgoing_qos true\n": ("qos", "retained"),
}
