#!/usr/bin/env python3
"""bad_broker: a small broker that keeps what it takes over, and that can be told to make one mistake.

    python3 test/faults/bad_broker.py PORT FILE [MISTAKE]

It shows that the checker finds what it is for, in real runs with kill -9. (The other way was to run the daemon over a
shim that makes fsync vanish. That gives one of the mistakes, an acknowledgement before the commit; the daemon offers no
place from which to reuse an id or to send PUBREL early, and switches for that have no place in it.)

How it is durable: whatever changes its state is a record (take()), and its state is nothing but what the records made
of it. The records of a turn of its loop are written to FILE before anything leaves that the turn has said; when it
starts it reads them again. A kill takes nothing that was written. It must be honest without a mistake: that is tested.

MISTAKE is one of MISTAKES. Only 3.1.1, only what loadclients.py does; a client that does anything else is cut off.
"""

import json
import os
import selectors
import signal
import socket
import struct
import sys
import time
from collections import deque

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import rawmqtt  # noqa: E402
from checker import matches  # noqa: E402
from loadclients import parsed  # noqa: E402
from rawmqtt import (CONNACK, CONNECT, DISCONNECT, PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK,  # noqa: E402
                     SUBSCRIBE, UNSUBACK, UNSUBSCRIBE, ack, packet)

WINDOW = 20
MISTAKES = {  # and the kind of Problem that it is
    "ack-before-commit": "missing",   # answers leave at once, records are written now and then
    "reuse-id": "id",                 # after a start identifiers are given again that are in use
    "early-pubrel": "pubrel",         # now and then a PUBREL comes right behind its PUBLISH
    "forget-inbound": "duplicate",    # of QoS 2 messages that came in the identifier is not kept
    "forget-done": "duplicate",       # a PUBREC is not kept: the PUBLISH goes out again
    "forget-retained": "retained",    # retained messages are not kept
    "forget-session": "session",      # a session with a subscription is sometimes gone after a start
    "forget-will": "missing",         # wills are not published
    "backwards": "order",             # what was queued comes in another order after a start
    "invent": "unknown",              # sends what nobody sent
    "no-dup": "dup",                  # sends again without DUP
    "no-answer": "unanswered",        # swallows a QoS 1 PUBLISH now and then
    "answer-twice": "answer",         # two PUBACKs for one PUBLISH
    "wrong-topic": "unasked",         # delivers to whom did not ask
}


def strings(data):
    """Of a payload that is nothing but strings."""
    found = []
    while data:
        end = 2 + struct.unpack_from(">H", data)[0]
        found.append(data[2:end].decode())
        data = data[end:]
    return found


class Session:
    def __init__(self):
        self.filters = {}       # filter: QoS
        self.queue = deque()    # [number, topic, payload, qos]
        self.flying = {}        # id: [number, topic, payload, qos], or None when PUBREC came
        self.inbound = set()
        self.last_id = 0
        self.will = None        # [topic, payload, qos]


class State:
    """What the records made."""

    def __init__(self):
        self.sessions = {}
        self.retained = {}
        self.number = 0

    def apply(self, record):
        kind, name, *rest = record
        if kind == "session":
            self.sessions[name] = Session()
        elif kind == "gone":
            self.sessions.pop(name, None)
        elif kind == "subscribe":
            self.sessions[name].filters[rest[0]] = rest[1]
        elif kind == "unsubscribe":
            self.sessions[name].filters.pop(rest[0], None)
        elif kind == "publish":
            self.publish(name, *rest)
        elif kind == "will":
            self.sessions[name].will = rest[0]
        elif kind == "release":
            self.sessions[name].inbound.discard(rest[0])
        elif kind == "out":
            session = self.sessions[name]
            session.flying[rest[0]] = session.queue.popleft()
            session.last_id = rest[0]
        elif kind == "received":
            self.sessions[name].flying[rest[0]] = None
        elif kind == "done":
            self.sessions[name].flying.pop(rest[0], None)

    def publish(self, name, topic, payload, qos, retain, mid):
        self.number += 1
        if qos == 2 and mid:
            self.sessions[name].inbound.add(mid)
        if retain and payload:
            self.retained[topic] = [payload, qos]
        elif retain:
            self.retained.pop(topic, None)
        for session in self.sessions.values():
            granted = [q for f, q in session.filters.items() if matches(f, topic)]
            if granted and min(max(granted), qos) > 0:
                session.queue.append([self.number, topic, payload, min(max(granted), qos)])


class Connection:
    def __init__(self, broker, sock):
        self.broker, self.sock = broker, sock
        self.rest = b""
        self.out = bytearray()
        self.name = None
        self.clean = False

    def say(self, data):
        self.out += data
        self.broker.dirty.add(self)


class Broker:
    def __init__(self, port, path, mistake):
        self.mistake = mistake
        self.count = 0
        self.state = State()
        self.records = []
        self.names = {}
        self.dirty = set()
        self.written = time.monotonic()
        self.fresh = not os.path.exists(path)
        if not self.fresh:
            with open(path, "rb") as file:
                data = file.read()
            whole = data[:data.rfind(b"\n") + 1]
            for line in whole.splitlines():
                self.state.apply(json.loads(line))
            os.truncate(path, len(whole))
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.after_start()
        self.selector = selectors.DefaultSelector()
        self.door = socket.create_server(("127.0.0.1", port), backlog=128)
        self.selector.register(self.door, selectors.EVENT_READ)
        print("ready", flush=True)

    def makes(self, mistake, often=1):
        """Whether it is time for this mistake."""
        if self.mistake != mistake:
            return False
        self.count += 1
        return self.count % often == 0

    def after_start(self):
        for name, session in list(self.state.sessions.items()):
            if self.mistake == "reuse-id":
                session.last_id = min(session.flying, default=1) - 1
            if self.mistake == "backwards":
                session.queue = deque(reversed(session.queue))
            self.publish_will(name)
            if session.filters and self.makes("forget-session", 3):
                self.take("gone", name)

    def take(self, *record):
        """A change of the state, and its record."""
        kind = record[0]
        self.state.apply(record)
        if kind == "publish" and self.mistake == "forget-inbound" and record[4] == 2 and record[6]:
            self.keep(("publish", *record[1:]))
            self.keep(("release", record[1], record[6]))
        elif kind == "publish" and self.mistake == "forget-retained":
            self.keep((*record[:5], False, record[6]))
        elif kind != "received" or self.mistake != "forget-done":
            self.keep(record)

    def keep(self, record):
        self.records.append(json.dumps(record))

    # ---- the loop

    def run(self):
        while True:
            for key, _ in self.selector.select(0.05):
                if key.fileobj is self.door:
                    sock, _ = self.door.accept()
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    sock.setblocking(False)
                    self.selector.register(sock, selectors.EVENT_READ, Connection(self, sock))
                elif key.data.sock.fileno() >= 0:
                    self.readable(key.data)
            for name in list(self.names):
                self.fill(name)
            self.commit()
            if self.mistake == "forget-inbound":
                time.sleep(0.02)  # a kill shows it only between the commit and the PUBREC
            for connection in list(self.dirty):
                self.flush(connection)

    def commit(self):
        late = 0.3 if self.mistake == "ack-before-commit" else 0
        if self.records and time.monotonic() - self.written >= late:
            os.write(self.file, "".join(record + "\n" for record in self.records).encode())
            self.records.clear()
            self.written = time.monotonic()

    def flush(self, connection):
        try:
            sent = connection.sock.send(connection.out) if connection.sock.fileno() >= 0 else len(connection.out)
            del connection.out[:sent]
        except BlockingIOError:
            pass
        except OSError:
            connection.out.clear()
        if not connection.out:
            self.dirty.discard(connection)

    def readable(self, connection):
        try:
            data = connection.sock.recv(1 << 18)
        except OSError:
            data = b""
        if not data:
            self.close(connection)
            return
        packets, connection.rest = parsed(connection.rest + data)
        for got in packets:
            if connection.sock.fileno() >= 0:
                self.packet(connection, rawmqtt.Packet(*got))

    def close(self, connection):
        if connection.sock.fileno() >= 0:
            self.selector.unregister(connection.sock)
            connection.sock.close()
        self.dirty.discard(connection)
        if self.names.get(connection.name) is connection:
            del self.names[connection.name]
            self.publish_will(connection.name)
            if connection.clean:
                self.take("gone", connection.name)

    def publish_will(self, name):
        will = self.state.sessions[name].will
        if will:
            topic, payload, qos = will
            self.take("publish", "", topic, payload, qos, False, 0)
            self.take("will", name, None)

    # ---- packets

    def packet(self, connection, got):
        name = connection.name
        session = self.state.sessions.get(name)
        if got.kind == DISCONNECT and session:
            self.take("will", name, None)
        if got.kind == CONNECT:
            self.connect(connection, got)
        elif session is None or got.kind == DISCONNECT:
            self.close(connection)
        elif got.kind == PINGREQ:
            connection.say(packet(PINGRESP, 0))
        elif got.kind == SUBSCRIBE:
            self.subscribe(connection, got)
        elif got.kind == UNSUBSCRIBE:
            for pattern in strings(got.body[2:]):
                self.take("unsubscribe", name, pattern)
            connection.say(packet(UNSUBACK, 0, got.body[:2]))
        elif got.kind == PUBLISH:
            self.publish(connection, session, got)
        elif got.kind == PUBREL:
            self.take("release", name, got.mid)
            connection.say(ack(PUBCOMP, got.mid))
        elif got.kind in (PUBACK, PUBCOMP):
            self.take("done", name, got.mid)
        elif got.kind == PUBREC:
            self.take("received", name, got.mid)
            connection.say(ack(PUBREL, got.mid))
        else:
            self.close(connection)

    def connect(self, connection, got):
        size = struct.unpack_from(">H", got.body, 10)[0]
        connection.name = name = got.body[12:12 + size].decode()
        connection.clean = bool(got.body[7] & 2)
        if name in self.names:
            self.close(self.names[name])
        self.names[name] = connection
        present = name in self.state.sessions and not connection.clean
        if not present:
            self.take("gone", name)
            self.take("session", name)
        if got.body[7] & 4 and self.mistake != "forget-will":
            topic, payload = strings(got.body[12 + size:])
            self.take("will", name, [topic, payload, got.body[7] >> 3 & 3])
        connection.say(packet(CONNACK, 0, bytes([present, 0])))
        for mid, message in self.state.sessions[name].flying.items():
            if message:
                self.send(connection, mid, message, self.mistake != "no-dup")
            else:
                connection.say(ack(PUBREL, mid))

    def subscribe(self, connection, got):
        rest, codes, filters = got.body[2:], b"", []
        while rest:
            size = 2 + struct.unpack_from(">H", rest)[0]
            filters.append((rest[2:size].decode(), rest[size]))
            codes += rest[size:size + 1]
            rest = rest[size + 1:]
        for pattern, qos in filters:
            self.take("subscribe", connection.name, pattern, qos)
        connection.say(packet(SUBACK, 0, got.body[:2] + codes))
        for pattern, _ in filters:
            for topic, (payload, _) in self.state.retained.items():
                if matches(pattern, topic):
                    connection.say(rawmqtt.publish(topic, payload, 0, True))

    def publish(self, connection, session, got):
        mid = got.mid if got.qos else 0
        if got.qos == 1 and self.makes("no-answer", 50):
            return
        if got.qos != 2 or mid not in session.inbound:
            self.take("publish", connection.name, got.topic, got.payload.decode(), got.qos, got.retain, mid)
            self.qos0(got)
        if got.qos:
            connection.say(ack(PUBACK if got.qos == 1 else PUBREC, mid))
        if got.qos == 1 and self.makes("answer-twice", 50):
            connection.say(ack(PUBACK, mid))

    def qos0(self, got):
        """To those who are there; the others were served by the state."""
        text = got.payload.decode()
        for name, other in self.names.items():
            granted = [q for f, q in self.state.sessions[name].filters.items() if matches(f, got.topic)]
            if granted and min(max(granted), got.qos) == 0:
                other.say(rawmqtt.publish(got.topic, text + "?" if text and self.makes("invent", 50) else text))
            elif not granted and self.makes("wrong-topic", 50):
                other.say(rawmqtt.publish(got.topic, text))

    def fill(self, name):
        """Sends what may be under way."""
        session, connection = self.state.sessions[name], self.names[name]
        while session.queue and len(session.flying) < WINDOW and len(connection.out) < 1 << 18:
            mid = session.last_id % 65535 + 1
            while mid in session.flying and self.mistake != "reuse-id":
                mid = mid % 65535 + 1
            message = session.queue[0]
            self.take("out", name, mid)
            self.send(connection, mid, message, False)

    def send(self, connection, mid, message, dup):
        _, topic, payload, qos = message
        connection.say(rawmqtt.publish(topic, payload, qos, False, mid, dup))
        if qos == 2 and self.makes("early-pubrel", 10):
            connection.say(ack(PUBREL, mid))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    Broker(int(sys.argv[1]), sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None).run()
