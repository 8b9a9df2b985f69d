"""loadclients: many MQTT clients on one thread, for rounds of load; each thing they send and see goes into one log.

    world = World(Log(path), seed)
    world.port = 1883
    Publisher(world, "p1", topics=["p/1/a"], qos=[1, 2], window=20)
    Subscriber(world, "s1", filters=[("p/#", 2)], slow=0.3)
    for client in world.clients: client.connect()
    world.run(lambda: condition, seconds)       # until the condition holds; returns whether it does

The log is what checker.py reads. A line is written as a packet is handed to the socket or taken from it, and all on one
thread: so the order of the lines is an order in which it may have happened.

Clients do what MQTT 3.1.1 wants of them: acknowledgements in order, after a resume the same identifiers with DUP, in the
old order [4.4, 4.6]. A lost connection is the rule here: whoever connects takes that into account.
"""

import heapq
import itertools
import random
import selectors
import socket
import struct
import time
import zlib
from collections import deque

import rawmqtt
from checker import matches
from rawmqtt import (CONNACK, NAMES, PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK, UNSUBACK, ack,
                     packet)

LONG = 40  # bytes of a payload that are written down; of a longer one its beginning, length and CRC


class Log:
    def __init__(self, path):
        self.path = path
        self.file = open(path, "w", encoding="utf-8", buffering=1 << 16)
        self.number = 0
        self.began = time.monotonic()

    def say(self, name, sign, text):
        self.number += 1
        self.file.write(f"{self.number} {time.monotonic() - self.began:.6f} {name} {sign} {text}\n")

    def flush(self):
        self.file.flush()

    def close(self):
        self.file.close()


def written(payload):
    """How a payload stands in the log."""
    if not payload:
        return "-"
    if len(payload) <= LONG:
        return payload.decode("ascii", "backslashreplace").replace(" ", "_")
    return f"{payload[:LONG].split(b':')[0].decode('ascii', 'backslashreplace')}:{len(payload)}:{zlib.crc32(payload):08x}"


def parsed(data):
    """([(kind, flags, body)], bytes left over)"""
    packets, at, end = [], 0, len(data)
    while end - at >= 2:
        size, shift, body = 0, 0, at + 1
        while body < end:
            byte = data[body]
            size |= (byte & 127) << shift
            shift += 7
            body += 1
            if byte < 128:
                break
        if data[body - 1] & 128 or end - body < size:
            break
        packets.append((data[at] >> 4, data[at] & 15, data[body:body + size]))
        at = body + size
    return packets, data[at:]


class World:
    """Sockets, timers and what is owed: the part of the checker's knowledge that is needed to know when all has come."""

    def __init__(self, log, seed):
        self.log = log
        self.random = random.Random(seed)
        self.selector = selectors.DefaultSelector()
        self.port = None
        self.clients = []
        self.timers = []
        self.order = itertools.count()
        self.dirty = set()
        self.progress = 0  # counts whatever anybody takes in

    @property
    def publishers(self):
        return [c for c in self.clients if isinstance(c, Publisher)]

    @property
    def subscribers(self):
        return [c for c in self.clients if isinstance(c, Subscriber)]

    def later(self, seconds, what):
        heapq.heappush(self.timers, (time.monotonic() + seconds, next(self.order), what))

    def run(self, done, seconds):
        """Turns until done() or the seconds are over. Returns what done() says."""
        end = time.monotonic() + seconds
        while not done():
            now = time.monotonic()
            if now >= end:
                return done()
            while self.timers and self.timers[0][0] <= now:
                heapq.heappop(self.timers)[2]()
            for client in list(self.clients):
                client.turn()
            self.flush()
            wait = min(end, self.timers[0][0] if self.timers else end, now + 0.02) - now
            for key, _ in self.selector.select(max(0, wait)):
                key.data.readable()
            self.flush()
        return True

    def flush(self):
        for client in self.dirty:
            client.flush()
        self.dirty.clear()

    def acknowledged(self, message):
        for client in self.subscribers:
            client.owe(message)


class Message:
    __slots__ = ("topic", "payload", "qos", "retain", "mid", "released", "first", "tries", "sent_at")

    def __init__(self, topic, payload, qos, retain):
        self.topic, self.payload, self.qos, self.retain = topic, payload, qos, retain
        self.mid = 0
        self.released = False
        self.first = None  # number of the log's line
        self.tries = 0
        self.sent_at = 0.0


class Client:
    """One client id with its session."""

    def __init__(self, world, name, kept=True, will=None):
        """will: (topic, QoS); each connection has one with a payload of its own."""
        self.world, self.name, self.kept, self.will = world, name, kept, will
        self.connections = 0
        self.last_will = None  # Message
        self.sock = None
        self.up = False      # CONNACK came
        self.out = bytearray()
        self.rest = b""
        self.pings = 0       # that are not answered
        world.clients.append(self)

    def say(self, sign, text):
        self.world.log.say(self.name, sign, text)

    def send(self, text, data):
        self.say(">", text)
        self.out += data
        self.world.dirty.add(self)

    # ---- connections

    def connect(self):
        if self.sock:
            return
        self.sock = socket.create_connection(("127.0.0.1", self.world.port), timeout=20)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.world.selector.register(self.sock, selectors.EVENT_READ, self)
        self.up, self.rest, self.pings = False, b"", 0
        self.out.clear()
        self.connections += 1
        text, will = "CONNECT " + ("kept" if self.kept else "clean"), None
        if self.will:
            topic, qos = self.will
            payload = f"{self.name}.w{self.connections}".encode()
            will = rawmqtt.Will(topic, payload, qos)
            text += f" will q{qos} {topic} {written(payload)}"
            self.last_will = Message(topic, payload, qos, False)
        self.send(text, rawmqtt.connect(self.name, clean=not self.kept, keepalive=0, will=will))
        if self.last_will:
            self.last_will.first = self.world.log.number

    def lose(self, how="close"):
        """The connection ends: close, reset, or disconnect (a DISCONNECT first)."""
        if not self.sock:
            return
        if how == "disconnect" and self.up:
            self.last_will = None
            self.send("DISCONNECT", packet(rawmqtt.DISCONNECT, 0))
            self.flush()
        if self.sock:
            if how == "reset":
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.gone()

    def gone(self):
        self.world.selector.unregister(self.sock)
        self.sock.close()
        self.forget()

    def forget(self):
        if self.last_will and self.up and self.kept:
            self.world.acknowledged(self.last_will)
        self.last_will = None
        self.sock = None
        self.up = False
        self.out.clear()
        self.say("-", "lost")
        self.lost()

    def take_over(self):
        """Another connection, while the broker still has the old one."""
        if self.up:
            old = self.sock
            self.world.selector.unregister(old)
            self.forget()
            self.connect()
            self.flush()
            old.close()

    def flush(self):
        if not self.sock or not self.out:
            return
        try:
            sent = self.sock.send(self.out)
            del self.out[:sent]
        except BlockingIOError:
            pass
        except OSError:
            return  # its end comes by reading
        if self.out:
            self.world.later(0.005, lambda: self.world.dirty.add(self))

    def readable(self):
        if not self.sock:
            return
        try:
            data = self.sock.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.gone()
            return
        self.world.progress += 1
        self.take(self.rest + data)

    def take(self, data):
        packets, self.rest = parsed(data)
        for got in packets:
            if self.sock:
                self.packet(*got)

    def packet(self, kind, flags, body):
        if kind == PUBLISH:
            self.publish_seen(flags, body)
        elif kind in (PUBACK, PUBREC, PUBREL, PUBCOMP, UNSUBACK):
            mid = struct.unpack(">H", body)[0]
            self.say("<", f"{NAMES[kind]} m{mid}")
            self.answered(kind, mid)
        elif kind == CONNACK:
            if body[1]:
                self.say("-", f"refused {body[1]}")
                self.gone()
                return
            self.say("<", "CONNACK " + ("resumed" if body[0] else "new"))
            self.up = True
            self.connected(bool(body[0]))
        elif kind == SUBACK:
            mid = struct.unpack_from(">H", body)[0]
            self.say("<", f"SUBACK m{mid} " + " ".join(f"q{q}" for q in body[2:]))
            self.suback(mid, body[2:])
        elif kind == PINGRESP:
            self.say("<", "PINGRESP")
            self.pings -= 1
        else:
            self.say("<", f"packet{kind} {body[:20].hex()}")

    def ping(self):
        if self.up:
            self.pings += 1
            self.send("PINGREQ", packet(PINGREQ, 0))

    # ---- what the kinds of clients do

    def connected(self, resumed):
        pass

    def lost(self):
        pass

    def turn(self):
        pass

    def answered(self, kind, mid):
        pass

    def suback(self, mid, codes):
        pass

    def publish_seen(self, flags, body):
        pass


class Publisher(Client):
    """window: how many are under way at most. ids: how many identifiers it uses, in turns. rate: messages a second.
    retain: the share of messages that are retained, clear: the share of those that clear. impatient: sends again on the
    same connection what was not acknowledged for so many seconds."""

    def __init__(self, world, name, topics, qos=(1,), window=1, ids=65535, rate=200, retain=0.0, clear=0.0, size=0,
                 kept=True, impatient=0.0):
        super().__init__(world, name, kept)
        self.topics, self.qos, self.window, self.rate = topics, qos, window, rate
        self.ids, self.retain, self.clear, self.size, self.impatient = ids, retain, clear, size, impatient
        self.under_way = {}  # id: Message, in the order of the first sending
        self.serial = 0
        self.last_id = 0
        self.active = False
        self.credit = 0.0
        self.then = time.monotonic()

    @property
    def idle(self):
        return self.up and not self.under_way

    def new_message(self):
        rnd = self.world.random
        topic = rnd.choice(self.topics)
        self.serial += 1
        retain = rnd.random() < self.retain
        payload = b"" if retain and rnd.random() < self.clear else f"{self.name}.{self.serial}".encode()
        if payload and self.size and rnd.random() < 0.3:
            payload += b":" + bytes(rnd.choices(b"0123456789abcdef", k=64)) * rnd.randrange(1, 1 + self.size // 64)
        return Message(topic, payload, rnd.choice(self.qos), retain)

    def free_id(self):
        for _ in range(self.ids):
            self.last_id = self.last_id % self.ids + 1
            if self.last_id not in self.under_way:
                return self.last_id
        return 0

    def turn(self):
        now = time.monotonic()
        self.credit = min(self.credit + (now - self.then) * self.rate, 1 + self.rate / 10)
        self.then = now
        if not self.up:
            return
        if self.impatient:
            for message in self.under_way.values():
                if now - message.sent_at > self.impatient and not message.released:
                    self.put(message, True)
        while self.active and self.credit >= 1 and len(self.under_way) < self.window and len(self.out) < 100000:
            message = self.new_message()
            if message.qos:
                message.mid = self.free_id()
                if not message.mid:
                    return
                self.under_way[message.mid] = message
            self.credit -= 1
            self.put(message, False)

    def put(self, message, dup):
        qos, mid = message.qos, message.mid
        name = f"PUBLISH q{qos} " + (f"m{mid} " if qos else "") + f"{message.topic} {written(message.payload)}"
        message.sent_at = time.monotonic()
        self.send(name + (" dup" if dup else "") + (" retain" if message.retain else ""),
                  rawmqtt.publish(message.topic, message.payload, qos, message.retain, mid, dup))
        message.tries += 1
        if message.first is None:
            message.first = self.world.log.number

    def connected(self, resumed):
        again, self.under_way = self.under_way, {}
        for message in again.values():
            if not self.kept:  # another session: what was not acknowledged is published anew
                message.mid = self.free_id()
                message.released = False
            self.under_way[message.mid] = message
            if message.released:
                self.send(f"PUBREL m{message.mid}", ack(PUBREL, message.mid))
            else:
                self.put(message, self.kept)

    def answered(self, kind, mid):
        message = self.under_way.get(mid)
        if not message:
            return
        if kind == PUBREC:
            if not message.released:
                self.world.acknowledged(message)
            message.released = True
            self.send(f"PUBREL m{mid}", ack(PUBREL, mid))
        elif kind == PUBACK and message.qos == 1:
            del self.under_way[mid]
            self.world.acknowledged(message)
        elif kind == PUBCOMP and message.released:
            del self.under_way[mid]


class Subscriber(Client):
    """slow: acknowledges after a random time up to so many seconds, some of what there is. mixed: PUBACK and PUBREC each in
    their order [MQTT-4.6.0-2, 3], but not one among the other."""

    def __init__(self, world, name, filters, slow=0.0, kept=True, extra=(), mixed=False):
        super().__init__(world, name, kept)
        self.filters, self.slow, self.extra, self.mixed = list(filters), slow, list(extra), mixed
        self.hurry = False
        self.held = {}       # QoS 2 ids
        self.arrived = set()
        self.owed = {}       # (topic, payload): Message
        self.known = {}      # filter: (QoS, number of the SUBACK's line)
        self.asked = {}      # id of SUBSCRIBE: filters
        self.waiting = deque()  # answers that it has not given yet
        self.armed = False
        self.last_id = 0

    @property
    def idle(self):
        return self.up and not (self.owed or self.held or self.waiting or self.asked)

    def connected(self, resumed):
        if not resumed:
            self.held.clear()
            self.known.clear()
            self.owed.clear()
        missing = [f for f in self.filters if f[0] not in self.known]
        if missing:
            self.subscribe(*missing)

    def subscribe(self, *filters):
        self.last_id = self.last_id % 65535 + 1
        self.asked[self.last_id] = filters
        self.send(f"SUBSCRIBE m{self.last_id} " + " ".join(f"{f} q{q}" for f, q in filters),
                  rawmqtt.subscribe(self.last_id, *filters))

    def suback(self, mid, codes):
        for (pattern, _), code in zip(self.asked.pop(mid, ()), codes):
            self.known.setdefault(pattern, (code, self.world.log.number))

    def more(self):
        """Subscribes to one filter more, while all goes on."""
        if self.extra and self.up:
            self.filters.append(self.extra.pop())
            self.subscribe(self.filters[-1])

    def change(self):
        """Unsubscribes from what it has, and subscribes again when that was answered."""
        if not self.up or self.asked or not self.known:
            return
        pattern = self.world.random.choice(list(self.known))
        del self.known[pattern]
        self.owed = {key: m for key, m in self.owed.items() if self.since(m.topic)}
        self.last_id = self.last_id % 65535 + 1
        self.asked[self.last_id] = ()
        self.send(f"UNSUBSCRIBE m{self.last_id} {pattern}", rawmqtt.unsubscribe(self.last_id, pattern))

    def since(self, topic):
        """[(QoS, number of the SUBACK's line)] of the filters that match."""
        return [known for f, known in self.known.items() if matches(f, topic)]

    def owe(self, message):
        key = (message.topic, message.payload)
        if message.payload and key not in self.arrived and any(
                min(q, message.qos) > 0 and since < message.first for q, since in self.since(message.topic)):
            self.owed[key] = message

    def lost(self):
        self.waiting.clear()
        self.asked.clear()

    def publish_seen(self, flags, body):
        qos = flags >> 1 & 3
        end = 2 + struct.unpack_from(">H", body)[0]
        topic = body[2:end].decode()
        mid = struct.unpack_from(">H", body, end)[0] if qos else 0
        payload = body[end + 2:] if qos else body[end:]
        self.say("<", f"PUBLISH q{qos} " + (f"m{mid} " if qos else "") + f"{topic} {written(payload)}"
                 + (" dup" if flags & 8 else "") + (" retain" if flags & 1 else ""))
        if not flags & 1 and payload:
            self.arrived.add((topic, payload))
            self.owed.pop((topic, payload), None)
        if qos == 1:
            self.answer(PUBACK, mid)
        elif qos == 2:
            self.held[mid] = True
            self.answer(PUBREC, mid)

    def answered(self, kind, mid):
        if kind == UNSUBACK:
            self.asked.pop(mid, None)
            self.connected(True)
        elif kind == PUBREL:
            self.held.pop(mid, None)
            self.answer(PUBCOMP, mid)

    def answer(self, kind, mid):
        if not self.slow or self.hurry:
            self.waiting.append((kind, mid))
            self.give(len(self.waiting))
            return
        self.waiting.append((kind, mid))
        self.arm()

    def arm(self):
        if not self.armed:
            self.armed = True
            self.world.later(self.world.random.random() * self.slow, self.due)

    def due(self):
        self.armed = False
        if self.mixed:
            first = self.world.random.choice([PUBACK, PUBREC, PUBCOMP])
            self.waiting = deque(sorted(self.waiting, key=lambda answer: answer[0] != first))
        if self.waiting:
            self.give(self.world.random.randrange(1, len(self.waiting) + 1))
        if self.waiting:
            self.arm()

    def give(self, count):
        for _ in range(count):
            kind, mid = self.waiting.popleft()
            self.send(f"{NAMES[kind]} m{mid}", ack(kind, mid))

    def turn(self):
        if self.hurry and self.waiting:
            self.give(len(self.waiting))


class Looker(Subscriber):
    """Looks at what is retained: a clean session, and when what must be there is there, the end. The last filter is that
    of a message that is always retained; all are of one QoS, as QoS 0 may overtake QoS 1."""

    END = "r/end"

    def __init__(self, world, name, filters, qos, patience):
        super().__init__(world, name, [(f, qos) for f in (*filters, self.END)], kept=False)
        self.done = False
        self.world.later(patience, self.finish)  # what has not come by then does not come

    def publish_seen(self, flags, body):
        super().publish_seen(flags, body)
        if flags & 1 and body[2:2 + struct.unpack_from(">H", body)[0]] == self.END.encode():
            self.finish()

    def finish(self):
        if not self.done and self.up:
            self.done = True
            self.say("-", "looked")
            self.lose("disconnect")

    def lost(self):
        super().lost()
        self.done = True
        if self in self.world.clients:
            self.world.clients.remove(self)
