"""Chapter 3.1: CONNECT as a packet, its sessions, user name, password and keep alive."""

import time

from bench import raw_connect, statement
from breakers import (HANGS, UP, add_at_close, aside, byte, change, clean, close_at, connack, connect_fields, connect_flags,
                      drop, level, payload, qos, repaired, replace)
from rawmqtt import (BAD_LEVEL, BAD_LOGIN, CONNACK, CONNECT, DISCONNECT, NOT_AUTHORISED, PINGREQ, PINGRESP, PUBACK, PUBLISH,
                     PUBREC, PUBREL, Will, ack, connect, packet, publish, string, subscribe, unsubscribe)
from streams import TIMEOUT, Closed

# ---- 3.1.0, 3.1.2: the packet as such

@statement("3.1.0-1", {
    **HANGS,
    "what came is carried out": aside(PUBLISH, lambda bench: bench.publish("t", "x"), on=1),
})
def test_3_1_0_1_first_packet_is_not_connect(bench):
    watch = bench.subscriber("watch", "t")
    name = bench.topic("t")
    bench.every_is_no_connect({
        "PUBLISH, QoS 0": publish(name, "x"), "PUBLISH, QoS 1": publish(name, "x", 1, mid=1),
        "PUBLISH, then CONNECT": publish(name, "x") + connect(bench.id("late")),
        "SUBSCRIBE": subscribe(1, (name, 0)), "UNSUBSCRIBE": unsubscribe(1, name), "PINGREQ": packet(PINGREQ, 0),
        "DISCONNECT": packet(DISCONNECT, 0), "PUBACK": ack(PUBACK, 1), "PUBREC": ack(PUBREC, 1), "PUBREL": ack(PUBREL, 1),
        "CONNACK": packet(CONNACK, 0, b"\0\0"), "PINGRESP": packet(PINGRESP, 0), "reserved": packet(15, 0)})
    watch.expect_nothing()


@statement("3.1.0-2", {
    **HANGS,
    "the second one is ignored": drop(CONNECT, side=UP, skip=1),
    "the second one is answered": add_at_close(connack(0)),
})
def test_3_1_0_2_second_connect(bench):
    client = bench.connect("once")
    client.send(connect(bench.id("once")))
    client.expect_closed()
    client = bench.connect("once")
    client.send(connect(bench.id("other")))
    client.expect_closed()


@statement("3.1.2-1", {
    **HANGS,
    "any name will do": repaired(CONNECT, replace(b"MQTX", b"MQTT"), when=lambda p: b"MQTX" in p.body),
    "what follows is carried out": aside(PUBLISH, lambda bench: bench.publish("t", "x")),
    "it is answered": add_at_close(connack(1)),
})
def test_3_1_2_1_wrong_protocol_name(bench):
    watch = bench.subscriber("watch", "t")
    follows = publish(bench.topic("t"), "x", 1, mid=1)
    bench.every_is_no_connect({name: connect(bench.id("x"), name=name, will=Will(bench.topic("t"))) + follows
                               for name in ("MQTX", "mqtt", "MQT", "MQTTT", "", "MQIsdx", "HTTP")})
    watch.expect_nothing()


@statement("3.1.2-2", {
    **HANGS,
    "no CONNACK": drop(CONNACK),
    "another code": change(CONNACK, byte(1, NOT_AUTHORISED)),
    "any level will do": repaired(CONNECT, level(4)),
})
def test_3_1_2_2_protocol_level(bench):
    levels = [6, 7, 100, 0x7f] + ([] if bench.foreign else [0, 1, 3, 5, 0x84, 255])  # 5 and 0x84 mean something elsewhere
    bench.every({f"level {n}": n for n in levels},
                lambda n: bench.client().connect(bench.id("x"), level=n, name="MQTT", expect=BAD_LEVEL))


@statement("3.1.2-3", {
    **HANGS,
    "it is ignored": repaired(CONNECT, connect_flags(off=1)),
    "it is answered": add_at_close(connack(1)),
})
def test_3_1_2_3_reserved_connect_flag(bench):
    bench.every_is_no_connect({"clean session": raw_connect(string(bench.id("x")), 3), "kept": raw_connect(string(bench.id("x")), 1)})


# ---- 3.1.2: sessions

@statement("3.1.2-4", {
    "a stored session is not resumed": change(CONNECT, clean(True), side=UP, on=1),
    "its messages are lost": drop(PUBLISH),
    "it does not outlive a lost connection": aside(CONNECT, lambda bench: bench.direct("kept").disconnect(), on=2),
})
def test_3_1_2_4_session_is_resumed(bench):
    bench.subscriber("kept", "t", clean=False, present=False).disconnect()
    bench.publish("t", "first")
    client = bench.connect("kept", clean=False, present=True)
    client.expect_message(bench.topic("t"), "first", 1)
    client.ping()
    client.lose()
    bench.publish("t", "second")
    client = bench.connect("kept", clean=False, present=True)
    client.expect_message(bench.topic("t"), "second", 1)


@statement("3.1.2-5", {
    "the one of QoS 1 is lost": drop(PUBLISH, when=lambda p: p.qos == 1),
    "the one of QoS 2 is lost": drop(PUBLISH, when=lambda p: p.qos == 2),
    "it comes with QoS 0": change(PUBLISH, qos(0), when=lambda p: p.qos == 2),
    "its payload is lost": change(PUBLISH, payload("")),
})
def test_3_1_2_5_messages_for_an_absent_client(bench):
    bench.subscriber("away", "a/#", ("b", 1), clean=False).disconnect()
    bench.publish("a/1", "one", 1)
    bench.publish("a/2", "two", 2)
    bench.publish("b", "three", 2)
    bench.publish("c", "not for it", 2)
    client = bench.connect("away", clean=False)
    client.expect_message(bench.topic("a/1"), "one", 1)
    client.expect_message(bench.topic("a/2"), "two", 2)
    client.expect_message(bench.topic("b"), "three", 1)
    client.expect_nothing()


@statement("3.1.2-6", {
    "the old session is used": change(CONNECT, clean(False), side=UP, on=1) + change(CONNACK, byte(0, 0), on=1),
    "it stays stored behind the clean one": change(CONNECT, clean(False), side=UP, on=1) + change(CONNACK, byte(0, 0), on=1) +
                                            drop(PUBLISH, on=1),
})
def test_3_1_2_6_clean_session(bench):
    bench.subscriber("twice", "t", clean=False).disconnect()
    bench.publish("t", "waits")
    client = bench.connect("twice", clean=True, present=False)
    client.expect_nothing()
    bench.publish("t", "for the old subscription")
    client.expect_nothing()
    client.subscribe((bench.topic("u"), 1))
    client.disconnect()
    bench.publish("t", "for the old subscription")
    bench.publish("u", "for that of the clean session")
    bench.connect("twice", clean=False, present=False).expect_nothing()


@statement("3.1.2-7", {
    "they go with the session": drop(PUBLISH),
    "they go with the next session of the same client": aside(
        CONNECT, lambda bench: bench.publish("t", "", 1, True), side=UP, on=2),
})
def test_3_1_2_7_retained_messages_outlive_the_session(bench):
    client = bench.connect("author", clean=True)
    client.publish(bench.topic("t"), "kept", 1, retain=True)
    client.disconnect()
    bench.subscriber("reader", "t").expect_message(bench.topic("t"), "kept", 1, retain=True)
    bench.connect("author", clean=True).disconnect()
    bench.subscriber("reader2", "t").expect_message(bench.topic("t"), "kept", 1, retain=True)


# ---- 3.1.2: user name and password

@statement("3.1.2-18", {**HANGS, "it is ignored": repaired(CONNECT, connect_fields(lambda fields: fields[:1]))})
def test_3_1_2_18_user_name_without_flag(bench):
    bench.every_is_no_connect({"user name": raw_connect(string(bench.id("x")) + string("mary"), 2)})


@statement("3.1.2-19", {
    **HANGS, "it is taken for none": repaired(CONNECT, connect_flags(off=128), times=1)})
def test_3_1_2_19_user_name_missing(bench):
    name = string(bench.id("x"))
    bench.every_is_no_connect({"missing": raw_connect(name, 0x82), "half a length": raw_connect(name + b"\0", 0x82),
                               "cut short": raw_connect(name + b"\0\4mar", 0x82)})


@statement("3.1.2-20", {**HANGS, "it is ignored": repaired(CONNECT, connect_fields(lambda fields: fields[:2]))})
def test_3_1_2_20_password_without_flag(bench):
    bench.every_is_no_connect({"password": raw_connect(string(bench.id("x")) + string("mary") + string("secret"), 0x82)})


@statement("3.1.2-21", {
    **HANGS, "it is taken for none": repaired(CONNECT, connect_flags(off=64), times=1)})
def test_3_1_2_21_password_missing(bench):
    fields = string(bench.id("x")) + string("mary")
    bench.every_is_no_connect({"missing": raw_connect(fields, 0xc2), "half a length": raw_connect(fields + b"\0", 0xc2),
                               "cut short": raw_connect(fields + b"\0\6secre", 0xc2)})


@statement("3.1.2-22", {
    **HANGS,
    "it is ignored": repaired(CONNECT, connect_flags(off=64), connect_fields(lambda fields: fields[:1])),
    "it is answered": add_at_close(connack(BAD_LOGIN)),
})
def test_3_1_2_22_password_without_user_name(bench):
    bench.every_is_no_connect({"password": raw_connect(string(bench.id("x")) + string("secret"), 0x42)})


# ---- 3.1.2: keep alive

@statement("3.1.2-24", {
    **HANGS,
    "the will is not published": drop(PUBLISH),
    "it is closed at once": close_at(CONNACK, on=1),
})
def test_3_1_2_24_keep_alive(bench):
    watch = bench.subscriber("watch", "will")
    client = bench.client()
    watch.stream.patience(TIMEOUT)  # some look only now and then
    client.stream.patience(TIMEOUT)
    began = time.monotonic()
    client.send(connect(bench.id("silent"), keepalive=1, will=Will(bench.topic("will"), "gone")))
    try:
        client.expect(CONNACK)
        client.expect_closed()
    except Closed:
        pass
    if not bench.foreign:  # the standard lets a broker lose patience earlier; ours does not
        assert time.monotonic() - began >= 1.49, "it was closed before one and a half times its keep alive"
    watch.expect_message(bench.topic("will"), "gone")


@statement("3.1.2-24", HANGS)
def test_3_1_2_24_bytes_are_no_packets(bench):
    """A packet that comes byte by byte and is never whole does not keep a connection alive."""
    client = bench.connect("drip", keepalive=1)
    client.stream.patience(0.2)
    for byte in publish(bench.topic("t"), "x" * 150)[:-1]:  # half a minute of it
        client.send(bytes([byte]))
        try:
            client.expect_closed()
            return
        except TimeoutError:
            pass
    raise AssertionError("it is still open")


