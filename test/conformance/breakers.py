"""breakers: the ways in which a broker is made to break a rule. See proxy.py for what carries them out.

A breaker is a list of rules; these functions make one each, and + puts them together:

    drop(PUBACK)                                      no PUBACK reaches the client
    change(PUBLISH, dup(), skip=1)                    all but the first PUBLISH have DUP 1
    change(CONNECT, clean(False), side=UP, on=1)      the second connection of the test asks for another session
    hold_close()                                      the broker closes, and the client never hears of it

skip, times, on, when: see Rule. What change() takes are functions from packet to packet, made by dup(), qos(), mid()...
"""

import dataclasses
import struct

import rawmqtt
from proxy import DOWN, END, UP, Rule
from rawmqtt import PUBLISH, SUBSCRIBE, Packet, raw, string

# ---- rules -----------------------------------------------------------------------------------------------------------

def act(kind, do, side=DOWN, **which):
    """do(link, packet) gives the packets that go on."""
    return [Rule(side, kind, lambda link, packet, _held: do(link, packet), **which)]


def drop(kind, side=DOWN, **which):
    return act(kind, lambda _link, _packet: [], side, **which)


def change(kind, *changes, side=DOWN, **which):
    def do(_link, packet):
        for each in changes:
            packet = each(packet)
        return [packet]
    return act(kind, do, side, **which)


def repaired(kind, *changes, **which):
    """As change(), of what the client sends: the broker is made to take what it should refuse."""
    return change(kind, *changes, side=UP, **which)


def repeat(kind, side=DOWN, **which):
    return act(kind, lambda _link, packet: [packet, packet], side, **which)


def swap(kind, side=DOWN, times=2, **which):
    """The first two that fit change places."""
    def do(link, packet, held):
        if link in held:
            return [packet, held.pop(link)]
        held[link] = packet
        return []
    return [Rule(side, kind, do, times=times, **which)]


def add_before(kind, *packets, side=DOWN, **which):
    """Packets, or functions of link that give one."""
    def do(link, packet):
        return [*(p(link) if callable(p) else p for p in packets), packet]
    return act(kind, do, side, **which)


def add_after(kind, *packets, side=DOWN, **which):
    def do(link, packet):
        return [packet, *(p(link) if callable(p) else p for p in packets)]
    return act(kind, do, side, **which)


def aside(kind, do, side=UP, **which):
    """do(bench) before the packet goes on: what a broker would do wrong, done by a client of our own."""
    def acting(link, packet):
        do(link.bench)
        return [packet]
    return act(kind, acting, side, **which)


def hold_close(**which):
    return [Rule(END, None, **which)]


HANGS = {"the broker hangs instead of closing": hold_close()}  # for all that ends a connection


def add_at_close(*packets, **which):
    """The broker says something before it closes."""
    return [Rule(END, None, lambda _link: packets, **which)]


def close_at(kind, side=DOWN, **which):
    """The broker closes where this packet would have come."""
    def do(link, _packet):
        link.end()
        return []
    return act(kind, do, side, **which)


# ---- packets ---------------------------------------------------------------------------------------------------------

def made(data):
    """A packet from its bytes."""
    kind, flags = data[0] >> 4, data[0] & 15
    at = 1
    while data[at] & 128:
        at += 1
    return Packet(kind, flags, data[at + 1:])


def message(topic, *args, **kwargs):
    """For add_before() and add_after(): a PUBLISH to a topic of the bench."""
    return lambda link: made(rawmqtt.publish(link.bench.topic(topic), *args, **kwargs))


def answer(kind, mid):
    return made(rawmqtt.ack(kind, mid))


def connack(code, present=False):
    return Packet(rawmqtt.CONNACK, 0, bytes([present, code]))


# ---- changes ---------------------------------------------------------------------------------------------------------

def flags(value):
    """The low half of the first byte; a number or a function of what it was."""
    return lambda p: dataclasses.replace(p, flags=value(p.flags) if callable(value) else value)


def body(fn):
    return lambda p: dataclasses.replace(p, body=fn(p.body))


def dup(on=True):
    return flags(lambda f: f | 8 if on else f & 7)


def retain(on=True):
    return flags(lambda f: f | 1 if on else f & 14)


def _publish(p, **fields):
    old = {"topic": p.body[2:p._topic_end], "payload": p.payload, "qos": p.qos, "mid": p.mid if p.qos else 0,
           "dup": p.dup, "retain": p.retain}
    return made(rawmqtt.publish(**{**old, **fields}))


def qos(n, mid=60000):
    """mid: where there was none."""
    return lambda p: _publish(p, qos=n, mid=p.mid if p.qos else mid)


def topic(fn):
    """fn: bytes to bytes."""
    return lambda p: _publish(p, topic=fn(p.body[2:p._topic_end]))


def payload(new):
    return lambda p: _publish(p, payload=new(p.payload) if callable(new) else raw(new))


def mid(new):
    """Of any packet that has one; a number or a function of what it was."""
    def changed(p):
        at = p._topic_end if p.kind == PUBLISH else 0
        value = new(p.mid) if callable(new) else new
        return dataclasses.replace(p, body=p.body[:at] + struct.pack(">H", value) + p.body[at + 2:])
    return changed


def other_mid():
    return mid(lambda m: m % 65535 + 1)


def byte(at, value):
    """One byte of the body: of CONNACK 0 is session present and 1 the code."""
    return body(lambda b: b[:at] + bytes([value]) + b[at + 1:])


def replace(old, new):
    """Bytes for as many bytes, where they first are."""
    def changed(p):
        if old not in p.body or len(old) != len(new):
            raise RuntimeError(f"{old!r} is not in {p}")
        return dataclasses.replace(p, body=p.body.replace(old, new, 1))
    return changed


# of CONNECT: after the name are level (1 byte), flags (1), keep alive (2), then the payload

def _flags_at(data):
    return 2 + struct.unpack_from(">H", data)[0] + 1


def connect_flags(on=0, off=0):
    return body(lambda b: b[:_flags_at(b)] + bytes([b[_flags_at(b)] & ~off | on]) + b[_flags_at(b) + 1:])


def clean(on):
    return connect_flags(on=2) if on else connect_flags(off=2)


def level(n):
    return body(lambda b: b[:_flags_at(b) - 1] + bytes([n]) + b[_flags_at(b):])


def strings(data):
    """Of a payload that is nothing but strings."""
    found = []
    while data:
        n = struct.unpack_from(">H", data)[0]
        found.append(data[2:2 + n])
        data = data[2 + n:]
    return found


def connect_fields(fn):
    """fn: the list of the payload's fields to another; the flags stay."""
    def changed(b):
        at = _flags_at(b) + 3
        return b[:at] + b"".join(string(s) for s in fn(strings(b[at:])))
    return body(changed)


# of SUBSCRIBE and UNSUBSCRIBE

def filters(fn):
    """fn: the list of (filter, QoS), or of filters, to another."""
    def changed(p):
        rest, found = p.body[2:], []
        while rest:
            n = 2 + struct.unpack_from(">H", rest)[0]
            found.append((rest[2:n], rest[n]) if p.kind == SUBSCRIBE else rest[2:n])
            rest = rest[n + (p.kind == SUBSCRIBE):]
        make = rawmqtt.subscribe if p.kind == SUBSCRIBE else rawmqtt.unsubscribe
        return made(make(p.mid, *fn(found)))
    return changed
