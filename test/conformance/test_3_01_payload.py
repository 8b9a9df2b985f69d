"""Chapters 3.1.3 and 3.1.4: the payload of CONNECT, and what the broker does with it all."""

import string as ascii

from bench import raw_connect, statement
from breakers import (HANGS, add_at_close, answer, aside, byte, change, clean, close_at, connack, connect_fields, drop,
                      flags, repaired, replace)
from rawmqtt import (BAD_ID, BAD_LEVEL, CONNACK, CONNECT, NOT_AUTHORISED, PINGREQ, PINGRESP, PUBACK, PUBLISH, SUBSCRIBE,
                     Will, connect, packet, publish, string, subscribe)

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
    bench.every_is_no_connect({"no payload": raw_connect(b""), "half a length": raw_connect(b"\0"), "cut short": raw_connect(b"\0\5name"),
                               "a user name only": raw_connect(string("mary"), 0x82)})


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
    ids = [characters[bench.number % 62], *(characters[at:at + 23] for at in range(0, 62, 23)), bench.prefix.ljust(23, "Z")]
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
        "half a keep alive": packet(CONNECT, 0, string("MQTT") + b"\4\2\0"), "no client id": raw_connect(b""),
        "bytes behind it": packet(CONNECT, 0, whole[2:] + b"\0\6behind"), "one byte behind it": packet(CONNECT, 0, whole[2:] + b"\0"),
        "a length that lies": packet(CONNECT, 0, whole[2:-1]), "a length of five bytes": b"\x10\xff\xff\xff\xff\1",
        "reserved flag": connect(name, flags=3), "flags of the header": b"\x11" + whole[1:], "will QoS 3": raw_connect(
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


@statement("3.1.4-5", {
    "a PUBLISH is carried out": aside(PUBLISH, lambda bench: publish_by_mary(bench, "t"), on=1),
    "a retained PUBLISH is stored": aside(PUBLISH, lambda bench: publish_by_mary(bench, "u"), on=1),
})
def test_3_1_4_5_nothing_after_a_wrong_password(bench):
    """What the client sends while its password is looked at."""
    bench.configure("password_file {dir}/passwd\n", files={"passwd": "mary:secret"})
    mary = {"user": "mary", "password": "secret"}
    watch = bench.subscriber("watch", "t", **mary)
    client = bench.client()
    client.send(connect(bench.id("thief"), user="mary", password="guess"), publish(bench.topic("t"), "x", 1, mid=1),
                publish(bench.topic("u"), "x", 1, True, mid=2))
    client.connack(NOT_AUTHORISED)
    watch.expect_nothing()
    bench.subscriber("later", "u", **mary).expect_nothing()


def publish_by_mary(bench, name):
    client = bench.direct("mary", user="mary", password="secret")
    client.publish(bench.topic(name), "x", 1, name == "u")
    client.disconnect()
