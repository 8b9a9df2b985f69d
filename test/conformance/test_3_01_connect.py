"""Chapter 3.1: CONNECT, with its wills, sessions and names."""

import string as ascii
import time

from bench import statement
from breakers import (UP, add_at_close, answer, aside, byte, change, clean, close_at, connack, connect_fields,
                      connect_flags, drop, flags, hold_close, level, payload, qos, repaired, repeat, replace, retain)
from rawmqtt import (BAD_ID, BAD_LEVEL, BAD_LOGIN, CONNACK, CONNECT, DISCONNECT, NOT_AUTHORISED, PINGREQ, PINGRESP, PUBACK,
                     PUBLISH, PUBREC, PUBREL, SUBSCRIBE, Will, ack, connect, packet, publish, string, subscribe, unsubscribe)
from streams import TIMEOUT, Closed

HANGS = {"the broker hangs instead of closing": hold_close()}


def by_hand(fields, bits=2, name="MQTT", level_byte=4):
    """CONNECT with any flags over any payload."""
    return packet(CONNECT, 0, string(name) + bytes([level_byte, bits]) + b"\0\x3c" + fields)


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
    bench.every_is_no_connect({"clean session": by_hand(string(bench.id("x")), 3), "kept": by_hand(string(bench.id("x")), 1)})


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


# ---- 3.1.2: wills

WILL_LOST = {"the will is not published": drop(PUBLISH)}


def mourner(bench, **fields):
    return bench.connect("mortal", will=Will(bench.topic("will"), "gone", 1), **fields)


@statement("3.1.2-8", WILL_LOST)
def test_3_1_2_8_will_is_published(bench):
    """When the connection ends in any way but DISCONNECT; with the session kept or not."""
    watch = bench.subscriber("watch", "will")

    def wrong(client):
        client.send(packet(15, 0))
        client.expect_closed()

    def check(how):
        how(mourner(bench))
        watch.expect_message(bench.topic("will"), "gone", 1, retain=False)
        how(mourner(bench, clean=False))
        watch.expect_message(bench.topic("will"), "gone", 1, retain=False)
    bench.every({"closed": lambda c: c.lose(), "reset": lambda c: c.reset(), "a protocol error": wrong}, check)


@statement("3.1.2-8", WILL_LOST)
def test_3_1_2_8_will_of_a_taken_over_connection(bench):
    """The older connection is closed without DISCONNECT, so its will is published."""
    watch = bench.subscriber("watch", "will")
    older = mourner(bench)
    bench.connect("mortal")
    older.expect_closed()
    watch.expect_message(bench.topic("will"), "gone", 1)


@statement("3.1.2-8", WILL_LOST)
def test_3_1_2_8_will_of_a_taken_over_kept_session(bench):
    watch = bench.subscriber("watch", "will")
    older = mourner(bench, clean=False)
    bench.connect("mortal", clean=False)
    older.expect_closed()
    watch.expect_message(bench.topic("will"), "gone", 1)


@statement("3.1.2-9", {
    **HANGS,
    "its QoS is lost": change(PUBLISH, qos(0), when=lambda p: p.qos),
    "its QoS is always 2": change(CONNECT, connect_flags(on=16, off=8), side=UP, when=lambda p: p.body[7] & 28 == 12),
    "its retain is lost": change(CONNECT, connect_flags(off=32), side=UP),
    "its payload is lost": change(PUBLISH, payload("")),
    "a will without message is taken": repaired(CONNECT, connect_fields(lambda fields: [*fields, b""]),
                                                when=lambda p: p.body[-4:] == b"will"),
})
def test_3_1_2_9_will_fields(bench):
    name = bench.topic("will")
    watch = bench.subscriber("watch", "will")
    for level_of_will in (0, 1, 2):
        for kept in (False, True):
            text = f"{level_of_will} {kept}"
            bench.connect("mortal", will=Will(name, text, level_of_will, kept)).lose()
            watch.expect_message(name, text, level_of_will, retain=False)
    bench.subscriber("later", "will").expect_message(name, "2 True", 2, retain=True)
    bench.every_is_no_connect({
        "neither topic nor message": by_hand(string(bench.id("x")), 6),
        "no message": by_hand(string(bench.id("x")) + string("will"), 6),
        "a topic cut short": by_hand(string(bench.id("x")) + string("will")[:-1], 6),
        "a message cut short": by_hand(string(bench.id("x")) + string("will") + string("gone")[:-1], 6)})


@statement("3.1.2-10", {
    "it is published twice": repeat(PUBLISH),
    "it is published on DISCONNECT": aside(DISCONNECT, lambda bench: bench.publish("will", "gone")),
    "it stays for the next connection": aside(CONNECT, lambda bench: bench.publish("will", "gone"), on=2),
})
def test_3_1_2_10_will_is_removed(bench):
    watch = bench.subscriber("watch", "will")
    mourner(bench, clean=False).lose()
    watch.expect_message(bench.topic("will"), "gone")
    watch.expect_nothing()
    bench.connect("mortal", clean=False).lose()
    watch.expect_nothing()
    mourner(bench, clean=False).disconnect()
    bench.connect("mortal", clean=False).lose()
    watch.expect_nothing()


@statement("3.1.2-11", {
    **HANGS,
    "will fields without the flag are taken": repaired(CONNECT, connect_fields(lambda fields: fields[:1]),
                                                       when=lambda p: b"will" in p.body),
    "will QoS without the flag is taken": repaired(CONNECT, connect_flags(off=24)),
})
def test_3_1_2_11_no_will_flag_no_will_fields(bench):
    name = string(bench.id("x"))
    bench.every_is_no_connect({
        "QoS 1": by_hand(name, 0x0a), "QoS 2": by_hand(name, 0x12), "QoS 3": by_hand(name, 0x1a),
        "retain": by_hand(name, 0x22), "QoS 1 and retain": by_hand(name, 0x2a),
        "topic and message": by_hand(name + string("will") + string("gone"), 2)})


@statement("3.1.2-12", {
    "there is one all the same": change(
        CONNECT, lambda p: connect_flags(on=4)(connect_fields(lambda f: [*f, f[0], b"gone"])(p)), side=UP, on=1),
})
def test_3_1_2_12_no_will_flag_no_will(bench):
    watch = bench.connect("watch")
    watch.subscribe((bench.id("immortal"), 0), (bench.topic("#"), 0))
    bench.connect("immortal").lose()
    bench.connect("immortal", clean=False).lose()
    watch.expect_nothing()


@statement("3.1.2-13", {**HANGS, "it is ignored": repaired(CONNECT, connect_flags(off=24))})
def test_3_1_2_13_will_qos_without_will(bench):
    name = string(bench.id("x"))
    bench.every_is_no_connect({"QoS 1": by_hand(name, 0x0a), "QoS 2": by_hand(name, 0x12), "QoS 3": by_hand(name, 0x1a)})


@statement("3.1.2-14", {**HANGS, "it is taken for QoS 2": repaired(CONNECT, connect_flags(off=8))})
def test_3_1_2_14_will_qos_3(bench):
    fields = string(bench.id("x")) + string(bench.topic("will")) + string("gone")
    bench.every_is_no_connect({"not retained": by_hand(fields, 0x1e), "retained": by_hand(fields, 0x3e)})


@statement("3.1.2-15", {**HANGS, "it is ignored": repaired(CONNECT, connect_flags(off=32))})
def test_3_1_2_15_will_retain_without_will(bench):
    bench.every_is_no_connect({"clean": by_hand(string(bench.id("x")), 0x22), "kept": by_hand(string(bench.id("x")), 0x20)})


@statement("3.1.2-16", {
    "it is retained": change(CONNECT, connect_flags(on=32), side=UP, on=1),
    "it is sent with RETAIN 1": change(PUBLISH, retain()),
})
def test_3_1_2_16_will_that_is_not_retained(bench):
    watch = bench.subscriber("watch", "will")
    bench.connect("mortal", will=Will(bench.topic("will"), "gone", 1, False)).lose()
    watch.expect_message(bench.topic("will"), "gone", 1, retain=False)
    bench.subscriber("later", "will").expect_nothing()


@statement("3.1.2-17", {
    "it is not retained": change(CONNECT, connect_flags(off=32), side=UP, on=0),
    "it is found without RETAIN": change(PUBLISH, retain(False)),
})
def test_3_1_2_17_will_that_is_retained(bench):
    bench.connect("mortal", will=Will(bench.topic("will"), "gone", 1, True)).lose()
    bench.subscriber("later", "will").expect_message(bench.topic("will"), "gone", 1, retain=True)


# ---- 3.1.2: user name and password

@statement("3.1.2-18", {**HANGS, "it is ignored": repaired(CONNECT, connect_fields(lambda fields: fields[:1]))})
def test_3_1_2_18_user_name_without_flag(bench):
    bench.every_is_no_connect({"user name": by_hand(string(bench.id("x")) + string("mary"), 2)})


@statement("3.1.2-19", {
    **HANGS, "it is taken for none": repaired(CONNECT, connect_flags(off=128), times=1)})
def test_3_1_2_19_user_name_missing(bench):
    name = string(bench.id("x"))
    bench.every_is_no_connect({"missing": by_hand(name, 0x82), "half a length": by_hand(name + b"\0", 0x82),
                               "cut short": by_hand(name + b"\0\4mar", 0x82)})


@statement("3.1.2-20", {**HANGS, "it is ignored": repaired(CONNECT, connect_fields(lambda fields: fields[:2]))})
def test_3_1_2_20_password_without_flag(bench):
    bench.every_is_no_connect({"password": by_hand(string(bench.id("x")) + string("mary") + string("secret"), 0x82)})


@statement("3.1.2-21", {
    **HANGS, "it is taken for none": repaired(CONNECT, connect_flags(off=64), times=1)})
def test_3_1_2_21_password_missing(bench):
    fields = string(bench.id("x")) + string("mary")
    bench.every_is_no_connect({"missing": by_hand(fields, 0xc2), "half a length": by_hand(fields + b"\0", 0xc2),
                               "cut short": by_hand(fields + b"\0\6secre", 0xc2)})


@statement("3.1.2-22", {
    **HANGS,
    "it is ignored": repaired(CONNECT, connect_flags(off=64), connect_fields(lambda fields: fields[:1])),
    "it is answered": add_at_close(connack(BAD_LOGIN)),
})
def test_3_1_2_22_password_without_user_name(bench):
    bench.every_is_no_connect({"password": by_hand(string(bench.id("x")) + string("secret"), 0x42)})


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
    assert time.monotonic() - began >= 1.5, "it was closed before one and a half times its keep alive"
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


# ---- 3.1.3: the payload

@statement("3.1.3-1", {
    "will message before will topic": repaired(CONNECT, connect_fields(lambda f: [f[0], f[2], f[1], *f[3:]]), on=1),
    "password before user name": repaired(CONNECT, connect_fields(lambda f: [*f[:3], f[4], f[3]]), on=1),
    "user name before the will": repaired(CONNECT, connect_fields(lambda f: [f[0], f[3], f[1], f[2], f[4]]), on=1),
})
def test_3_1_3_1_order_of_fields(bench):
    bench.configure("password_file {dir}/passwd\n", files={"passwd": "mary:secret watch:watch"})
    watch = bench.subscriber("watch", "#", user="watch", password="watch")
    bench.connect("mortal", will=Will(bench.topic("will"), "gone"), user="mary", password="secret").lose()
    watch.expect_message(bench.topic("will"), "gone")


@statement("3.1.3-1", {
    "will message before will topic": repaired(CONNECT, connect_fields(lambda f: [f[0], f[2], f[1]]), on=1),
    "client id behind the will": repaired(CONNECT, connect_fields(lambda f: [f[1], f[2], f[0]]), on=1),
})
def test_3_1_3_1_order_of_fields_of_anybody(bench):
    watch = bench.subscriber("watch", "#")
    older = bench.connect("mortal", will=Will(bench.topic("will"), "gone"))
    bench.connect("mortal")
    older.expect_closed()
    watch.expect_message(bench.topic("will"), "gone")


@statement("3.1.3-2", {
    "all share one session": repaired(CONNECT, connect_fields(lambda f: [f[0][:9]])),
    "the case of letters does not count": repaired(CONNECT, connect_fields(lambda f: [f[0].lower()])),
    "sessions are changed over": repaired(CONNECT, connect_fields(lambda f: [f[0][:-3] + {b"one": b"two", b"two": b"one"}.get(
        f[0][-3:], f[0][-3:])]), skip=3),
})
def test_3_1_3_2_sessions_go_by_client_id(bench):
    names = ("one", "two", "ONE")
    for name in names:
        bench.subscriber(name, name, clean=False).disconnect()
    for name in names:
        bench.publish(name, name)
    for name in names:
        client = bench.connect(name, clean=False, present=True)
        client.expect_message(bench.topic(name), name)
        client.expect_nothing()


@statement("3.1.3-3", {**HANGS, "none is an empty one": repaired(CONNECT, connect_fields(lambda fields: [b""]))})
def test_3_1_3_3_client_id_missing(bench):
    bench.every_is_no_connect({"no payload": by_hand(b""), "half a length": by_hand(b"\0"), "cut short": by_hand(b"\0\5name"),
                               "a user name only": by_hand(string("mary"), 0x82)})


BAD = b"\xed\xa0\x80"


@statement("3.1.3-4", {**HANGS, "any bytes will do": repaired(CONNECT, replace(BAD, b"bad"))})
def test_3_1_3_4_client_id_is_not_utf8(bench):
    bench.every_is_no_connect({"surrogate": connect(b"x" + BAD), "clean session 0": connect(b"x" + BAD, clean=False)})


@statement("3.1.3-5", {
    "23 characters are too many": change(CONNACK, byte(1, BAD_ID), skip=1),
    "capitals are refused": change(CONNACK, byte(1, BAD_ID), on=2),
    "no answer": drop(CONNACK),
})
def test_3_1_3_5_client_ids_that_must_be_taken(bench):
    characters = ascii.digits + ascii.ascii_uppercase + ascii.ascii_lowercase
    ids = [characters[bench.count % 62], *(characters[at:at + 23] for at in range(0, 62, 23)), bench.prefix.ljust(23, "Z")]
    for client_id in ids:
        client = bench.client()
        client.connect(client_id)
        client.ping()
        client.disconnect()


@statement("3.1.3-6", {
    "all get the same": repaired(CONNECT, connect_fields(lambda fields: [b"same"]), when=lambda p: p.body[-2:] == b"\0\0"),
    "it is refused": change(CONNACK, byte(1, BAD_ID), skip=1),
})
def test_3_1_3_6_no_client_id(bench):
    clients = []
    for _ in range(3):
        client = bench.client()
        assert not client.connect("", clean=True)
        client.subscribe((bench.topic("t"), 1))
        clients.append(client)
    bench.publish("t", "to all")
    for client in clients:
        client.expect_message(bench.topic("t"), "to all")
        client.expect_nothing()


@statement("3.1.3-8", {
    **HANGS,
    "another code": change(CONNACK, byte(1, NOT_AUTHORISED)),
    "no CONNACK": drop(CONNACK),
    "it is taken": repaired(CONNECT, clean(True)),
})
def test_3_1_3_8_no_client_id_for_a_kept_session(bench):
    bench.client().connect("", clean=False, expect=BAD_ID)


@statement("3.1.3-9", {
    **HANGS,
    "another code": change(CONNACK, byte(1, NOT_AUTHORISED), when=lambda p: p.body[1]),
    "no CONNACK": drop(CONNACK, when=lambda p: p.body[1]),
    "they are taken": change(CONNACK, byte(1, 0), when=lambda p: p.body[1]),
})
def test_3_1_3_9_client_id_refused(bench):
    bench.configure("clientid_prefixes good\nallow_zero_length_clientid false\n")
    bench.client().connect("good1")
    bench.every({"a bad one": "bad1", "one letter short": "goo", "none": ""},
                lambda name: bench.client().connect(name, expect=BAD_ID))


@statement("3.1.3-10", {**HANGS, "any bytes will do": repaired(CONNECT, replace(BAD, b"bad"))})
def test_3_1_3_10_will_topic_is_not_utf8(bench):
    bench.every_is_no_connect({"surrogate": connect(bench.id("x"), will=Will(b"will" + BAD)),
                               "truncated": connect(bench.id("x"), will=Will(b"will\xc3"))})


@statement("3.1.3-11", {**HANGS, "any bytes will do": repaired(CONNECT, replace(BAD, b"bad"))})
def test_3_1_3_11_user_name_is_not_utf8(bench):
    bench.every_is_no_connect({"surrogate": connect(bench.id("x"), user=b"mary" + BAD, password="secret"),
                               "truncated": connect(bench.id("x"), user=b"mary\xc3")})


# ---- 3.1.4: what the broker does

@statement("3.1.4-1", {
    **HANGS,
    "it is answered": add_at_close(connack(BAD_LEVEL)),
    "what is behind it is ignored": repaired(CONNECT, connect_fields(lambda fields: fields[:1]),
                                             when=lambda p: p.body.endswith(b"behind")),
})
def test_3_1_4_1_malformed_connect(bench):
    name = bench.id("x")
    whole = connect(name)
    bench.every_is_no_connect({
        "nothing in it": packet(CONNECT, 0), "a name only": packet(CONNECT, 0, string("MQTT")),
        "no flags": packet(CONNECT, 0, string("MQTT") + b"\4"), "no keep alive": packet(CONNECT, 0, string("MQTT") + b"\4\2"),
        "half a keep alive": packet(CONNECT, 0, string("MQTT") + b"\4\2\0"), "no client id": by_hand(b""),
        "bytes behind it": packet(CONNECT, 0, whole[2:] + b"\0\6behind"), "one byte behind it": packet(CONNECT, 0, whole[2:] + b"\0"),
        "a length that lies": packet(CONNECT, 0, whole[2:-1]), "a length of five bytes": b"\x10\xff\xff\xff\xff\1",
        "reserved flag": connect(name, flags=3), "flags of the header": b"\x11" + whole[1:], "will QoS 3": by_hand(
            string(name) + string("w") + string("w"), 0x1e), "will to a wildcard": connect(name, will=Will("will/#"))})


@statement("3.1.4-2", {
    **HANGS,
    "the new one gets another session": repaired(CONNECT, connect_fields(lambda fields: [fields[0] + b"2"]), on=1),
    "the newer connection is closed": close_at(PINGRESP),
})
def test_3_1_4_2_same_client_id(bench):
    for kept in (False, True):
        older = bench.connect("twin", clean=not kept)
        newer = bench.connect("twin", clean=not kept)
        older.expect_closed()
        newer.ping()
        newer.disconnect()


def forget(bench):
    """The session of "kept" is discarded."""
    bench.direct("kept").disconnect()


@statement("3.1.4-3", {
    "a malformed CONNECT discards the session": aside(CONNECT, forget, on=1),
    "a CONNECT of another level discards the session": aside(CONNECT, forget, on=2),
    "session present is not said": change(CONNACK, byte(0, 0), on=3),
})
def test_3_1_4_3_clean_session_after_validation(bench):
    bench.subscriber("kept", "t", clean=False).disconnect()
    bench.publish("t", "waits")
    malformed = bench.client()
    malformed.send(connect(bench.id("kept"), clean=True, flags=3))
    malformed.expect_closed()
    bench.client().connect(bench.id("kept"), clean=True, level=6, name="MQTT", expect=BAD_LEVEL)
    bench.connect("kept", clean=False, present=True).expect_message(bench.topic("t"), "waits")


def forget_mary(bench):
    bench.direct("kept", user="mary", password="secret").disconnect()


@statement("3.1.4-3", {"a wrong password discards the session": aside(CONNECT, forget_mary, on=1)})
def test_3_1_4_3_clean_session_after_authentication(bench):
    bench.configure("password_file {dir}/passwd\n", files={"passwd": "mary:secret"})
    mary = {"user": "mary", "password": "secret"}
    bench.subscriber("kept", "t", clean=False, **mary).disconnect()
    bench.client().connect(bench.id("kept"), clean=True, user="mary", password="wrong", expect=NOT_AUTHORISED)
    bench.connect("kept", clean=False, present=True, **mary)


@statement("3.1.4-4", {
    "no CONNACK": drop(CONNACK),
    "another code": change(CONNACK, byte(1, 3)),
    "flags in it": change(CONNACK, flags(1)),
    "it is longer": change(CONNACK, lambda p: type(p)(p.kind, p.flags, p.body + b"\0")),
})
def test_3_1_4_4_connack(bench):
    name = bench.id("x")
    for fields in ({}, {"clean": False}, {"keepalive": 0}, {"keepalive": 65535}, {"will": Will(bench.topic("w"), b"", 2, True)},
                   {"will": Will(bench.topic("w"), b"\0" * 65535)}):
        client = bench.client()
        client.send(connect(name, **fields))
        got = client.next()
        assert (got.kind, got.flags, got.body) == (CONNACK, 0, b"\0\0"), str(got)
        client.ping()
        client.disconnect()
        bench.direct("x").disconnect()


@statement("3.1.4-5", {
    "a PUBLISH is carried out": aside(PUBLISH, lambda bench: bench.publish("t", "x"), times=1),
    "a retained PUBLISH is stored": aside(PUBLISH, lambda bench: bench.publish("u", "x", 1, True), times=1),
    "a PUBLISH is answered": add_at_close(answer(PUBACK, 1)),
    "a SUBSCRIBE is carried out": aside(SUBSCRIBE, lambda bench: bench.direct("kept", clean=False).subscribe(
        (bench.topic("t"), 1)), skip=1, times=1),
})
def test_3_1_4_5_nothing_after_a_rejected_connect(bench):
    watch = bench.subscriber("watch", "t")
    behind = (publish(bench.topic("t"), "x", 1, mid=1) + publish(bench.topic("u"), "x", 1, True, mid=2) +
              subscribe(3, (bench.topic("t"), 1)) + packet(PINGREQ, 0))

    def check(case):
        first, code = case
        client = bench.client()
        client.send(first + behind)
        client.connack(code)
    bench.every({"another level": (connect(bench.id("kept"), clean=False, level=6, name="MQTT"), BAD_LEVEL),
                 "no client id": (connect("", clean=False), BAD_ID)}, check)
    watch.expect_nothing()
    bench.subscriber("later", "u").expect_nothing()
    bench.connect("kept", clean=False, present=False)
