"""client: one client of a sequence, as the standard wants it, and what it can say about the broker by itself.

A Client is a client id with its state (what it publishes and what it receives, beyond one connection [4.1]); a Conn is
one connection. Both write down what happens for the model (model.py), which judges what came from whom. What needs no
other client to judge is judged here, at once, by raising Wrong: acknowledgements that fit nothing or come in the wrong
order, identifiers in use, DUP, PUBLISH again after PUBREC, more in flight than allowed, bytes that are not MQTT.

The hard part is what a lost connection leaves open. Packets of one connection are dealt with in order, so for each
connection `processed` counts how many of those it sent the broker has certainly dealt with (an answer to one shows it
for all before), and marks says when that was known. Times are ticks: a number that rises with every packet sent or
received by anybody.
"""

import struct
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field

import rawmqtt
from rawmqtt import CONNACK, NAMES, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK, UNSUBACK

NEVER = float("inf")
KIND_OF = {"puback": PUBACK, "pubrec": PUBREC, "pubrel": PUBREL, "pubcomp": PUBCOMP}


class Wrong(Exception):
    """The broker has done what it must not. kind: one word, the same for the same kind of fault."""

    def __init__(self, kind, text):
        super().__init__(f"{kind}: {text}")
        self.kind = kind


@dataclass(eq=False)
class Message:
    token: str  # the payload begins with it, so who receives the message knows which one it is
    topic: str
    qos: int
    retain: bool
    payload: bytes
    who: str

    def __str__(self):
        return f"{self.token} of {self.who} ({self.topic}, QoS {self.qos}{', retain' if self.retain else ''})"


@dataclass(eq=False)
class Route:
    """One way in which a message may enter the broker: a PUBLISH and, for QoS 2, its repetitions; or a will. A QoS 1
    PUBLISH that is sent again is a Route of its own, as the broker may pass it on again."""
    message: Message
    sends: list = field(default_factory=list)  # (Conn, index of its packet, tick); only those that were sent whole
    will: object = None                        # the Conn whose will it is


@dataclass
class Delivery:
    """A message that came, for the first time."""
    conn: object
    tick: int
    token: str
    qos: int
    retain: bool


@dataclass
class Request:
    """SUBSCRIBE or UNSUBSCRIBE that was sent whole. filters: (filter, qos) or (filter, None)."""
    index: int
    tick: int
    filters: list


@dataclass
class Entry:
    """A QoS 1 or 2 message in flight to the client. phase: got, answered (PUBREC sent), released, done."""
    token: str
    qos: int
    retain: bool
    conn: object
    order: int
    phase: str = "got"
    answer: tuple = None  # (Conn, index) of the last PUBACK, PUBREC or PUBCOMP


@dataclass
class Outgoing:
    """A QoS 1 or 2 message in flight from the client."""
    route: Route
    order: int
    conn: object
    released: bool = False  # PUBREC came


class Conn:
    def __init__(self, client, stream, clean, will, tick):
        self.client = client
        self.stream = stream
        self.clean = clean
        self.will = will             # a Message
        self.number = len(client.conns)
        self.state = "up"            # deaf, closing (waits for the broker's end), abandoned, gone
        self.start = tick
        self.sent = 0                # packets, whole
        self.processed = 0
        self.marks = []              # (processed, tick), both rising
        self.requests = []
        self.present = None          # what CONNACK said
        self.accepted = None         # tick of CONNACK
        self.lost = None             # tick
        self.disconnect = None       # index of DISCONNECT, sent whole
        self.how = None              # fin, rst, disconnect, abandoned
        self.ended = None            # tick at which it was known that the broker has ended it
        self.over = NEVER            # tick after which nothing can have been sent on it
        self.settled = []            # ticks at which everything was known to have come
        self.buffer = bytearray()
        self.may_send = self.may_receive = None  # bytes until it is lost
        self.lose_how = None
        self.may_read = None         # bytes until it is deaf
        self.pings = self.pongs = 0
        self.waits = {kind: deque() for kind in (CONNACK, PUBACK, PUBREC, PUBCOMP, SUBACK, UNSUBACK, PINGRESP, PUBREL)}
        self.last_again = 0

    def __str__(self):
        return f"{self.client.name}.{self.number + 1}"

    @property
    def live(self):
        return self.state in ("up", "deaf")

    def mark(self, index, tick):
        """The broker has dealt with the packet of this index, and so with all before."""
        if index >= self.processed:
            self.processed = index + 1
            self.marks.append((index + 1, tick))

    def known(self, index):
        """The tick at which it was known that the packet was dealt with; NEVER."""
        at = bisect_left(self.marks, (index + 1,))
        return self.marks[at][1] if at < len(self.marks) else NEVER


class Client:
    """world: the Player. It has tick(), note(conn, arrow, text), send(conn, bytes), message(topic, payload), routes,
    routes_of(token), max_inflight."""

    def __init__(self, world, name, transport):
        self.world = world
        self.name = name
        self.transport = transport
        self.conns = []
        self.conn = None          # the one in use
        self.session = []         # connections of the session, as far as the client knows
        self.outgoing = {}        # identifier: Outgoing
        self.inbound = {}         # identifier: Entry
        self.glimpsed = {}        # token: identifier of a PUBLISH of which only a part came
        self.owed = []            # (kind, identifier)
        self.prompt = True
        self.counter = 0
        self.deliveries = []
        self.next_loss = None     # how, when, after how many bytes

    def last_try(self, before):
        """The last connection on which a whole CONNECT was sent."""
        return next((c for c in reversed(self.conns) if c is not before and c.sent), None)

    # ---- sending

    def send(self, packet, text):
        """Returns the packet's index, or None when it was cut."""
        conn = self.conn
        tick = self.world.tick()
        self.world.note(conn, "->", text)
        if not self.world.send(conn, packet):
            return None, tick
        conn.sent += 1
        return conn.sent - 1, tick

    def free_id(self):
        """The lowest, so that identifiers are soon used again."""
        used = {mid for kind in (SUBACK, UNSUBACK) for mid, _ in self.conn.waits[kind]} | set(self.outgoing)
        return next(mid for mid in range(1, 65536) if mid not in used)

    def connect(self, packet):
        conn = self.conn
        last = self.last_try(conn)
        if last and last.clean:
            self.forget([])  # its session ended with it
        index, conn.start = self.send(packet, f"CONNECT {'clean' if conn.clean else 'kept'}"
                                              f"{f' will {conn.will}' if conn.will else ''}")
        if index is not None:
            self.session.append(conn)
            conn.waits[CONNACK].append((0, index))

    def publish(self, message):
        mid = self.free_id() if message.qos else 0
        route = Route(message)
        self.world.routes.append(route)
        out = None
        if message.qos:
            out = self.outgoing[mid] = Outgoing(route, self.next(), self.conn)
        self.send_publish(mid, route, out, dup=False)

    def next(self):
        self.counter += 1
        return self.counter

    def send_publish(self, mid, route, out, dup):
        message, conn = route.message, self.conn
        packet = rawmqtt.publish(message.topic, message.payload, message.qos, message.retain, mid, dup)
        index, tick = self.send(packet, f"PUBLISH {message}{f' id {mid}' if mid else ''}{' dup' if dup else ''}")
        if out:
            out.conn = conn
        if index is not None:
            route.sends.append((conn, index, tick))
            if message.qos:
                conn.waits[PUBACK if message.qos == 1 else PUBREC].append((mid, index))

    def send_again(self):
        """[MQTT-4.4.0-1], [MQTT-4.6.0-1]: after a CONNACK that says the session is there."""
        this = self.conn
        for mid, out in sorted(self.outgoing.items(), key=lambda item: item[1].order):
            if this is not self.conn or not this.live:
                return
            if out.conn is this:
                continue  # sent before the CONNACK was there
            out.conn = this
            if out.released:
                self.send_pubrel(mid)
                continue
            if out.route.message.qos == 1:
                out.route = Route(out.route.message)
                self.world.routes.append(out.route)
            self.send_publish(mid, out.route, out, dup=True)

    def send_pubrel(self, mid):
        index, _ = self.send(rawmqtt.ack(PUBREL, mid), f"PUBREL {mid}")
        if index is not None:
            self.conn.waits[PUBCOMP].append((mid, index))

    def request(self, kind, filters):
        """SUBSCRIBE with (filter, qos) each, UNSUBSCRIBE with (filter, None) each."""
        mid = self.free_id()
        if kind == SUBACK:
            packet = rawmqtt.subscribe(mid, *filters)
            text = f"SUBSCRIBE {mid} {' '.join(f'{f}:{q}' for f, q in filters)}"
        else:
            packet = rawmqtt.unsubscribe(mid, *(f for f, _ in filters))
            text = f"UNSUBSCRIBE {mid} {' '.join(f for f, _ in filters)}"
        conn = self.conn
        index, tick = self.send(packet, text)
        if index is not None:
            conn.requests.append(Request(index, tick, filters))
            conn.waits[kind].append((mid, (index, [q for _, q in filters])))

    def ping(self):
        index, _ = self.send(rawmqtt.packet(rawmqtt.PINGREQ, 0), "PINGREQ")
        if index is not None:
            self.conn.pings += 1
            self.conn.waits[PINGRESP].append((0, index))

    def owe(self, kind, mid):
        self.owed.append((kind, mid))
        if self.prompt:
            self.answer_all()

    def answer_all(self):
        """Returns whether there was anything."""
        did = False
        while self.owed and self.conn and self.conn.live and self.conn.accepted:
            self.answer(self.owed[0][0])
            did = True
        return did

    def answer(self, kind):
        """The oldest of this kind: those of one kind keep their order [4.6]."""
        owed = next((o for o in self.owed if o[0] == kind), None)
        if not owed:
            return
        self.owed.remove(owed)
        mid = owed[1]
        if kind == PUBREL:
            self.send_pubrel(mid)
            return
        conn, entry = self.conn, self.inbound[mid]
        index, _ = self.send(rawmqtt.ack(kind, mid), f"{NAMES[kind]} {mid}")
        if index is None:
            return
        entry.answer = (conn, index)
        entry.phase = "answered" if kind == PUBREC else "done"
        if kind == PUBREC:
            conn.waits[PUBREL].append((mid, index))

    def check_answered(self):
        """When all is quiet."""
        for kind, waits in self.conn.waits.items():
            if waits:
                raise Wrong("unanswered", f"{self.conn} still waits for {NAMES[kind]} {waits[0][0]}")

    # ---- receiving

    def received(self, conn, packet):
        tick = self.world.tick()
        self.world.note(conn, "<-", packet)
        kind = packet.kind
        if not conn.accepted and kind != CONNACK:
            raise Wrong("connack", f"{conn} got {packet} before CONNACK [MQTT-3.2.0-1]")
        if kind == PUBLISH:
            self.got_publish(conn, packet, tick)
            return
        wanted_flags = 2 if kind == PUBREL else 0
        if packet.flags != wanted_flags:
            raise Wrong("flags", f"{conn} got {packet} [MQTT-2.2.2-1]")
        handlers = {CONNACK: self.got_connack, PUBACK: self.got_ack, PUBREC: self.got_ack, PUBCOMP: self.got_ack,
                    PUBREL: self.got_pubrel, SUBACK: self.got_suback, UNSUBACK: self.got_suback,
                    PINGRESP: self.got_pong}
        if kind not in handlers:
            raise Wrong("direction", f"{conn} got {packet}, which only a client sends")
        handlers[kind](conn, packet, tick)

    def got_connack(self, conn, packet, tick):
        if not conn.waits[CONNACK]:
            raise Wrong("connack", f"{conn} got a CONNACK more")
        conn.waits[CONNACK].popleft()
        if len(packet.body) != 2 or packet.body[0] > 1 or packet.body[1] != 0:
            raise Wrong("connack", f"{conn} got {packet}")
        conn.accepted = tick
        conn.present = bool(packet.body[0])
        conn.mark(0, tick)
        for other in self.conns:
            if other is not conn:
                other.over = min(other.over, tick)
        if conn.present and conn.clean:
            raise Wrong("present", f"{conn} connected clean, and a session is said to be present [MQTT-3.2.2-1]")
        if conn.present:
            self.send_again()
            return
        self.forget([conn])

    def forget(self, session):
        """All of the session's state but what belongs to the connection in use."""
        self.session = session
        self.inbound.clear()
        self.glimpsed.clear()
        self.outgoing = {mid: out for mid, out in self.outgoing.items() if out.conn is self.conn}

    def mid_of(self, conn, packet):
        if len(packet.body) < 2 or (packet.kind not in (SUBACK, PUBLISH) and len(packet.body) != 2):
            raise Wrong("length", f"{conn} got {packet}")
        return struct.unpack_from(">H", packet.body)[0]

    def got_ack(self, conn, packet, tick):
        """Of what this client publishes; PUBACKs come in the order of their PUBLISHes, and so do PUBRECs."""
        kind, mid, waits = packet.kind, self.mid_of(conn, packet), conn.waits[packet.kind]
        if mid not in (m for m, _ in waits):
            raise Wrong("answer", f"{conn} got {NAMES[kind]} {mid}, which answers nothing")
        if kind != PUBCOMP and waits[0][0] != mid:
            raise Wrong("answer", f"{conn} got {NAMES[kind]} {mid} before that of {waits[0][0]} [MQTT-4.6.0-2, -3]")
        index = next(i for m, i in waits if m == mid)
        waits.remove((mid, index))
        conn.mark(index, tick)
        if kind == PUBREC:
            self.outgoing[mid].released = True
            self.owe(PUBREL, mid)
        else:
            del self.outgoing[mid]

    def got_suback(self, conn, packet, tick):
        mid, waits = self.mid_of(conn, packet), conn.waits[packet.kind]
        found = next((w for w in waits if w[0] == mid), None)
        if not found:
            raise Wrong("answer", f"{conn} got {NAMES[packet.kind]} {mid}, which answers nothing")
        waits.remove(found)
        index, wanted = found[1]
        if packet.kind == SUBACK and list(packet.body[2:]) != wanted:
            raise Wrong("suback", f"{conn} got return codes {list(packet.body[2:])}, asked for {wanted}")
        conn.mark(index, tick)

    def got_pong(self, conn, packet, tick):
        if not conn.waits[PINGRESP] or packet.body:
            raise Wrong("answer", f"{conn} got {packet}, which answers nothing")
        conn.mark(conn.waits[PINGRESP].popleft()[1], tick)
        conn.pongs += 1

    def got_publish(self, conn, packet, tick):
        if packet.qos == 3 or (packet.qos == 0 and packet.dup):
            raise Wrong("flags", f"{conn} got {packet} [MQTT-3.3.1-2, -4]")
        message = self.world.message(packet.topic, packet.payload)
        if not message or packet.payload != message.payload or packet.topic != message.topic:
            raise Wrong("payload", f"{conn} got {packet}, which nobody has published")
        if packet.qos and self.got_again(conn, packet, message):
            return
        self.deliveries.append(Delivery(conn, tick, message.token, packet.qos, packet.retain))
        if packet.qos:
            self.got_new(conn, packet, message)

    def got_again(self, conn, packet, message):
        """A message that was not acknowledged, sent again; False: it is none of those."""
        mid = packet.mid
        entry = self.inbound.get(mid)
        if not entry:
            return False
        done = entry.phase == "done"
        known = entry.answer and entry.answer[0].processed > entry.answer[1]
        if entry.token != message.token or (done and not packet.dup):
            if not done:
                raise Wrong("id", f"{conn} got {packet}, but identifier {mid} is in use for {entry.token} [MQTT-2.3.1-4]")
            return False
        if entry.phase == "released" or (entry.answer and known) or (done and entry.qos == 2):
            raise Wrong("again", f"{conn} got {packet} again, after its acknowledgement")
        if entry.conn is conn:
            raise Wrong("again", f"{conn} got {packet} twice on one connection")
        if not packet.dup:
            raise Wrong("dup", f"{conn} got {packet} again, without DUP [MQTT-3.3.1-1]")
        if (packet.qos, packet.retain) != (entry.qos, entry.retain):
            raise Wrong("again", f"{conn} got {packet} again, before at QoS {entry.qos}, retain {entry.retain}")
        if entry.order < conn.last_again:
            raise Wrong("again", f"{conn} got {packet} again, but not in the order of before [MQTT-4.6.0-1]")
        conn.last_again = entry.order
        entry.conn = conn
        entry.phase = "got"
        self.owe(PUBACK if entry.qos == 1 else PUBREC, mid)
        return True

    def got_new(self, conn, packet, message):
        mid = packet.mid
        if mid == 0:
            raise Wrong("id", f"{conn} got {packet} [MQTT-2.3.1-1]")
        glimpsed = self.glimpsed.pop(message.token, None)
        sends = [tick for route in self.world.routes_of(message.token) for _, _, tick in route.sends]
        if glimpsed and len(sends) == 1 and (not packet.dup or mid != glimpsed):
            raise Wrong("dup", f"{conn} got {packet}, a part of which came before with identifier {glimpsed}")
        if packet.dup and sends and not any(c.over > min(sends) for c in self.session if c is not conn):
            raise Wrong("dup", f"{conn} got {packet}, which was never sent to it before")
        in_flight = [m for m, e in self.inbound.items() if e.phase != "done" and m != mid]
        if len(in_flight) >= self.world.max_inflight:
            raise Wrong("window", f"{conn} got {packet} with {len(in_flight)} in flight already")
        self.inbound[mid] = Entry(message.token, packet.qos, packet.retain, conn, self.next())
        self.owe(PUBACK if packet.qos == 1 else PUBREC, mid)

    def got_pubrel(self, conn, packet, tick):
        mid = self.mid_of(conn, packet)
        entry = self.inbound.get(mid)
        waits = conn.waits[PUBREL]
        if not entry or entry.qos != 2 or entry.phase == "got":
            raise Wrong("answer", f"{conn} got PUBREL {mid}, which it has not sent a PUBREC for")
        if entry.phase == "done" and entry.answer[0].processed > entry.answer[1]:
            raise Wrong("answer", f"{conn} got PUBREL {mid} after its PUBCOMP")
        if (mid in (m for m, _ in waits)):
            if waits[0][0] != mid:
                raise Wrong("answer", f"{conn} got PUBREL {mid} before that of {waits[0][0]} [MQTT-4.6.0-4]")
            conn.mark(waits.popleft()[1], tick)
        elif entry.conn is conn:
            raise Wrong("answer", f"{conn} got PUBREL {mid} twice on one connection")
        entry.conn = conn
        entry.phase = "released"
        self.owe(PUBCOMP, mid)

    def glimpse(self, data):
        """The start of a packet after which the connection was lost."""
        if len(data) < 2 or data[0] >> 4 != PUBLISH or not data[0] & 6:
            return
        at = next((i for i in range(1, min(5, len(data))) if not data[i] & 128), None)
        if at is None or len(data) < at + 3:
            return
        end = at + 3 + struct.unpack_from(">H", data, at + 1)[0]
        token, colon, _ = bytes(data[end + 2:]).partition(b":")
        if colon and not data[0] & 8:
            self.glimpsed[token.decode()] = struct.unpack_from(">H", data, end)[0]


__all__ = ["Client", "Conn", "Delivery", "KIND_OF", "Message", "NEVER", "Route", "Wrong"]
