"""Chapter 3.2: CONNACK."""

from bench import statement
from breakers import HANGS, UP, add_at_close, add_before, byte, change, clean, connack, drop, swap
from rawmqtt import (BAD_ID, BAD_LEVEL, CONNACK, CONNECT, NOT_AUTHORISED, PINGREQ, PINGRESP, PUBACK, PUBLISH, SUBACK, Packet,
                     Will, connect, packet, publish, string, subscribe)

PRESENT = change(CONNACK, byte(0, 1))


@statement("3.2.0-1", {
    "a message comes first": swap(None, on=1),
    "an answer comes first": add_before(CONNACK, Packet(PINGRESP, 0, b""), on=1),
    "no CONNACK": drop(CONNACK, on=1),
})
def test_3_2_0_1_connack_is_first(bench):
    """Also when messages wait, and when the client does not wait."""
    bench.subscriber("eager", "t", clean=False).disconnect()
    for i in range(3):
        bench.publish("t", f"message {i}")
    client = bench.client()
    client.send(connect(bench.id("eager"), clean=False), packet(PINGREQ, 0), subscribe(1, (bench.topic("u"), 1)),
                publish(bench.topic("u"), "own", 1, mid=2))
    got = client.next()
    assert (got.kind, got.body) == (CONNACK, b"\1\0"), f"the first packet is {got}"
    kinds = sorted(client.next().kind for _ in range(7))
    assert kinds == sorted([PUBLISH] * 4 + [PINGRESP, SUBACK, PUBACK])


@statement("3.2.2-1", {"it says 1 when a session was discarded": PRESENT + change(CONNECT, clean(False), side=UP, on=2),
                       "it says 1 when there was none": change(CONNACK, byte(0, 1), times=1)})
def test_3_2_2_1_session_present_of_a_clean_session(bench):
    bench.connect("x", clean=True, present=False).disconnect()
    bench.subscriber("x", "t", clean=False).disconnect()
    bench.connect("x", clean=True, present=False).disconnect()
    bench.connect("x", clean=True, present=False).disconnect()


@statement("3.2.2-2", {"it says 0": change(CONNACK, byte(0, 0)), "it says 0 after a lost connection": change(
    CONNACK, byte(0, 0), on=2)})
def test_3_2_2_2_session_present_of_a_stored_session(bench):
    bench.connect("x", clean=False)
    bench.connect("x", clean=False, present=True).lose()
    bench.connect("x", clean=False, present=True).disconnect()
    bench.connect("x", clean=False, present=True)


@statement("3.2.2-3", {"it says 1": PRESENT,
                       "it says 1 because of another client": change(CONNACK, byte(0, 1), on=2)})
def test_3_2_2_3_session_present_without_a_stored_session(bench):
    bench.connect("x", clean=False, present=False).disconnect()
    bench.connect("y", clean=True)
    bench.connect("y2", clean=False, present=False)
    bench.connect("x", clean=True).disconnect()
    bench.connect("x", clean=False, present=False)


@statement("3.2.2-4", {"it says 1": change(CONNACK, byte(0, 1), when=lambda p: p.body[1])})
def test_3_2_2_4_session_present_of_a_refusal(bench):
    """Also for a client id that has a stored session."""
    bench.connect("x", clean=False).disconnect()
    bench.client().connect(bench.id("x"), clean=False, level=6, name="MQTT", expect=BAD_LEVEL)
    bench.client().connect("", clean=False, expect=BAD_ID)


@statement("3.2.2-5", {**HANGS, "it goes on": add_at_close(Packet(PINGRESP, 0, b""))})
def test_3_2_2_5_closed_after_a_refusal(bench):
    for message, code in ((connect(bench.id("x"), level=6, name="MQTT"), BAD_LEVEL),
                          (connect("", clean=False), BAD_ID)):
        client = bench.client()
        client.send(message, packet(PINGREQ, 0))
        got = client.next()
        assert (got.kind, got.body[1]) == (CONNACK, code), str(got)
        client.expect_closed()


@statement("3.2.2-5", HANGS)
def test_3_2_2_5_closed_after_a_wrong_password(bench):
    bench.configure("password_file {dir}/passwd\n", files={"passwd": "mary:secret"})
    for fields in ({}, {"user": "mary"}, {"user": "mary", "password": "wrong"}, {"user": "bob", "password": "secret"}):
        bench.client().connect(bench.id("x"), expect=NOT_AUTHORISED, **fields)


@statement("3.2.2-6", {
    "some code is used": add_at_close(connack(BAD_ID)),
    **HANGS,
})
def test_3_2_2_6_no_code_fits(bench):
    """What is wrong has no code; and of bramble, a CONNECT larger than it takes from strangers."""
    cases = {"reserved flag": connect(bench.id("x"), flags=3),
             "will QoS 3": connect(bench.id("x"), will=Will("w"), flags=0x1e),
             "another protocol": connect(bench.id("x"), name="MQTX"),
             "no client id": packet(CONNECT, 0, string("MQTT") + b"\4\2\0\x3c")}
    if not bench.foreign:
        cases["too large"] = connect(bench.id("x"), will=Will("w" * 100, b"x" * 65535), user="u", password="p" * 65535)
    bench.every_is_no_connect(cases)
