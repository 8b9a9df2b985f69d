"""CONNECT, keep alive, take-over, DISCONNECT, and packets that are wrong."""

import time

import pytest

import rawmqtt
import streams
from bramble import LISTENER
from rawmqtt import (BAD_ID, BAD_LEVEL, CONNACK, DISCONNECT, PINGREQ, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK,
                     SUBSCRIBE, UNSUBACK, UNSUBSCRIBE, Will, ack, connect, packet, publish, string, subscribe)


def test_mqtt_31(anywhere):
    """MQIsdp, level 3."""
    client = anywhere.connect("old", level=3)
    client.subscribe(("t", 1))
    client.publish("t", "x")
    client.expect_message("t", "x", 0)
    client.disconnect()


@pytest.mark.parametrize("name,level", [("MQTT", 5), ("MQTT", 3), ("MQTT", 6), ("MQIsdp", 4), ("MQTT", 0x84)])
def test_other_levels_get_connack_1(start, name, level):
    broker = start()
    broker.client().connect("x", name=name, level=level, expect=BAD_LEVEL)


def test_accept_protocol_versions(start):
    broker = start("listener {tcp} 127.0.0.1\naccept_protocol_versions 4\n")
    broker.client().connect("x", level=3, expect=BAD_LEVEL)
    broker.connect("x")


def test_connect_and_more_in_one_piece(anywhere):
    """A client need not wait for CONNACK."""
    client = anywhere.client()
    client.send(connect("eager"), subscribe(1, ("t", 1)), publish("t", "x", 1, mid=2), packet(PINGREQ, 0))
    assert client.expect(CONNACK).body == b"\0\0"
    client.expect(SUBACK, 1)
    kinds = [client.next().kind for _ in range(3)]
    assert sorted(kinds) == sorted([PUBACK, PUBLISH, rawmqtt.PINGRESP])


WRONG = {
    "not CONNECT": packet(PINGREQ, 0),
    "PUBLISH first": publish("t", "x"),
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS": bytes.fromhex("16030100a5010000a10303") + b"\x55" * 100,
    "another protocol": packet(1, 0, string("MQXX") + b"\4\2\0\x3c" + string("x")),
    "flags of CONNECT": packet(1, 1, string("MQTT") + b"\4\2\0\x3c" + string("x")),
    "reserved flag": connect("x", flags=3),
    "will QoS 3": connect("x", will=Will("t"), flags=0x1e),
    "will QoS without will": connect("x", flags=0x0a),
    "will retain without will": connect("x", flags=0x22),
    "password without user": connect("x", password="p"),
    "will to a wildcard": connect("x", will=Will("a/#")),
    "client id not UTF-8": connect(b"\xff\xfe"),
    "client id with NUL": connect(b"a\0b"),
    "too short": packet(1, 0, string("MQTT") + b"\4\2\0"),
    "bytes behind it": packet(1, 0, connect("x")[2:] + b"more"),
    "length of five bytes": b"\x10\xff\xff\xff\xff\x01",
    "zeroes": b"\0" * 100,
    "ones": b"\xff" * 100,
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_first_packets_close(start, what):
    broker = start()
    client = broker.client()
    client.send(WRONG[what])
    client.expect_closed()
    broker.wait_log("protocol error in")
    broker.connect("others are not concerned")


WRONG_LATER = {
    "second CONNECT": connect("x"),
    "CONNACK": b"\x20\2\0\0",
    "SUBACK": b"\x90\3\0\1\0",
    "UNSUBACK": packet(UNSUBACK, 0, b"\0\1"),
    "PINGRESP": b"\xd0\0",
    "reserved 0": b"\0\0",
    "reserved 15": b"\xf0\0",
    "PUBLISH QoS 3": b"\x36" + publish("t", "x", 1, mid=1)[1:],
    "PUBLISH QoS 0 with DUP": b"\x38" + publish("t", "x")[1:],
    "PUBLISH without identifier": publish("t", "x", 1, mid=0),
    "PUBLISH without topic": publish("", "x"),
    "PUBLISH to #": publish("a/#", "x"),
    "PUBLISH to +": publish("a/+", "x"),
    "PUBLISH topic not UTF-8": publish(b"a\xc0\x80", "x"),
    "PUBLISH topic with NUL": publish(b"a\0", "x"),
    "PUBLISH topic with a surrogate": publish(b"\xed\xa0\x80", "x"),
    "PUBLISH topic longer than the packet": packet(PUBLISH, 0, b"\xff\xffx"),
    "SUBSCRIBE flags": packet(SUBSCRIBE, 0, b"\0\1" + string("t") + b"\0"),
    "SUBSCRIBE without filter": packet(SUBSCRIBE, 2, b"\0\1"),
    "SUBSCRIBE QoS 3": subscribe(1, ("t", 3)),
    "SUBSCRIBE reserved bits": subscribe(1, ("t", 4)),
    "SUBSCRIBE identifier 0": subscribe(0, ("t", 0)),
    "SUBSCRIBE empty filter": subscribe(1, ("", 0)),
    "SUBSCRIBE a/#/b": subscribe(1, ("a/#/b", 0)),
    "SUBSCRIBE a#": subscribe(1, ("a#", 0)),
    "SUBSCRIBE a+/b": subscribe(1, ("a+/b", 0)),
    "SUBSCRIBE cut short": packet(SUBSCRIBE, 2, b"\0\1" + string("t")),
    "UNSUBSCRIBE flags": packet(UNSUBSCRIBE, 0, b"\0\1" + string("t")),
    "UNSUBSCRIBE without filter": packet(UNSUBSCRIBE, 2, b"\0\1"),
    "PUBREL flags": packet(PUBREL, 0, b"\0\1"),
    "PUBACK flags": packet(PUBACK, 2, b"\0\1"),
    "PUBACK without identifier": packet(PUBACK, 0),
    "PUBREC identifier 0": ack(PUBREC, 0),
    "PUBCOMP too long": packet(PUBCOMP, 0, b"\0\1\0"),
    "PINGREQ flags": packet(PINGREQ, 1),
    "PINGREQ with a body": packet(PINGREQ, 0, b"x"),
    "DISCONNECT flags": packet(DISCONNECT, 1),
    "length of five bytes": b"\x30\x80\x80\x80\x80\x01",
}


@pytest.mark.parametrize("what", WRONG_LATER)
def test_wrong_packets_close_and_publish_the_will(start, what):
    broker = start()
    watcher = broker.connect("watcher")
    watcher.subscribe("will")
    client = broker.connect("sinner", will=Will("will", b"closed"))
    client.send(WRONG_LATER[what])
    client.expect_closed()
    watcher.expect_message("will", "closed")
    broker.wait_log("Client sinner .* disconnected: protocol error in ")


# ---- client ids

def test_empty_client_id(start):
    broker = start("auto_id_prefix made-\nallow_anonymous true\n")
    one, two = broker.connect(""), broker.connect("")
    one.ping()
    two.ping()
    broker.wait_log("as made-[0-9A-F-]{36} ", 2)
    broker.client().connect("", clean=False, expect=BAD_ID)
    broker.client().connect("", level=3, expect=BAD_ID)


def test_empty_client_id_forbidden(start):
    broker = start("allow_zero_length_clientid false\nallow_anonymous true\n")
    broker.client().connect("", expect=BAD_ID)
    broker.connect("x")


def test_clientid_prefixes(start):
    broker = start("clientid_prefixes home-\n")
    broker.connect("home-1")
    broker.client().connect("work-1", expect=BAD_ID)


@pytest.mark.parametrize("client_id", ["x" * 23, "x" * 1000, "x" * 65535, "with blanks and äöü €", "a/b+c#"])
def test_unusual_client_ids(start, client_id):
    broker = start()
    broker.connect(client_id, clean=False).disconnect()
    assert broker.client().connect(client_id, clean=False)


def test_take_over(anywhere):
    """The same client id again: the first connection ends, its will is published, subscriptions go on."""
    watcher = anywhere.connect("watcher")
    watcher.subscribe("will")
    first = anywhere.connect("twin", clean=False, will=Will("will", b"first"))
    first.subscribe(("t", 1))
    second = anywhere.client()
    assert second.connect("twin", clean=False)
    first.expect_closed()
    watcher.expect_message("will", "first")
    watcher.publish("t", "x", 1)
    second.expect_message("t", "x", 1)


def test_take_over_of_a_clean_session(start):
    broker = start()
    first = broker.connect("twin")
    first.subscribe(("t", 1))
    second = broker.client()
    assert not second.connect("twin")
    first.expect_closed()
    second.publish("t", "x", 1)
    second.expect_nothing()


def test_take_over_again_and_again(start):
    """Two clients with one id that both come back at once, as misconfigured ones do."""
    broker = start()
    before = broker.descriptors()
    client = None
    for _ in range(200):
        client = broker.connect("twin", clean=False)
    client.ping()
    assert broker.descriptors() <= before + 3


# ---- time

def test_keep_alive(anywhere):
    """One second asked for, one and a half given; the will is published."""
    watcher = anywhere.connect("watcher")
    watcher.subscribe("will")
    client = anywhere.connect("sleepy", keepalive=1, will=Will("will", b"timeout"))
    started = time.monotonic()
    watcher.expect_message("will", "timeout")
    assert time.monotonic() - started > 1.3
    client.expect_closed()
    anywhere.broker.wait_log("Client sleepy .* exceeded its keep alive of 1 seconds")


def test_keep_alive_is_kept_by_any_packet(start):
    broker = start()
    client = broker.connect("busy", keepalive=1)
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        time.sleep(0.4)  # of the client: what is tested is that this is short enough
        client.ping()


def test_max_keepalive(start):
    broker = start("max_keepalive 100\n")
    broker.connect("short", keepalive=100)
    broker.client().connect("long", keepalive=101, expect=BAD_ID)
    broker.client().connect("for ever", keepalive=0, expect=BAD_ID)


def test_connect_must_come_in_time(anywhere):
    anywhere.start("connect_timeout 1\nallow_anonymous true\n")
    client = anywhere.client()
    client.expect_closed()
    anywhere.broker.wait_log("no CONNECT came in time")


def test_handshake_must_come_in_time(start):
    """A connection that says nothing to a TLS or WebSocket listener."""
    broker = start("handshake_timeout 1\nconnect_timeout 1\nallow_anonymous true\n" + "".join(
        LISTENER[kind] for kind in ("tls", "ws", "wss")))
    silent = [streams.tcp(broker.ports[kind]) for kind in ("tls", "ws", "wss")]
    for stream in silent:
        assert stream.recv(1) == b""
    for kind in ("tls", "ws", "wss"):
        broker.connect("x", kind).disconnect()


# ---- the end

def test_disconnect_discards_the_will(anywhere):
    watcher = anywhere.connect("watcher")
    watcher.subscribe("will")
    anywhere.connect("polite", will=Will("will")).disconnect()
    anywhere.broker.wait_log(r"Client polite disconnected\.")
    watcher.expect_nothing()


def test_client_may_close_at_once(anywhere):
    """CONNECT, PUBLISH, DISCONNECT and the end of the connection, without reading anything."""
    reader = anywhere.connect("reader")
    reader.subscribe("t")
    client = anywhere.client()
    client.send(connect("hasty"), publish("t", "x"), packet(DISCONNECT, 0))
    reader.expect_message("t", "x")
    client.close()


def test_connections_are_given_back(anywhere):
    anywhere.connect("first").disconnect()
    before = anywhere.broker.descriptors()
    for i in range(50):
        client = anywhere.connect(f"client{i}")
        client.subscribe("t")
        (client.reset if i % 3 == 0 else client.close if i % 3 == 1 else client.disconnect)()
    anywhere.broker.wait_log("Client client49 ")
    anywhere.connect("last").ping()
    assert anywhere.broker.descriptors() <= before + 3
