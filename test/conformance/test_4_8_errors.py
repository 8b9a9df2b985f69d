"""Chapter 4.8: what ends a connection."""

from bench import statement
from breakers import HANGS, UP, add_at_close, answer, byte, change, drop, repaired, repeat
from rawmqtt import (CONNACK, PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK, SUBSCRIBE, UNSUBACK,
                     UNAVAILABLE, UNSUBSCRIBE, connect, packet, publish, string, subscribe, unsubscribe)
from streams import Closed


def violations(bench):
    name = bench.topic("t")
    return {
        "reserved type 0": packet(0, 0), "reserved type 15": packet(15, 0),
        "CONNACK": packet(CONNACK, 0, b"\0\0"), "SUBACK": packet(SUBACK, 0, b"\0\1\0"),
        "UNSUBACK": packet(UNSUBACK, 0, b"\0\1"), "PINGRESP": packet(PINGRESP, 0), "CONNECT": connect(bench.id("x")),
        "a length of five bytes": b"\x30\x80\x80\x80\x80\1", "a length of six bytes": b"\x30\xff\xff\xff\xff\xff\1",
        **{f"{what}, too short": packet(kind, flags, b"\1") for what, kind, flags in ACKS},
        **{f"{what}, empty": packet(kind, flags) for what, kind, flags in ACKS},
        **{f"{what}, too long": packet(kind, flags, b"\0\1\0") for what, kind, flags in ACKS},
        "PINGREQ with a body": packet(PINGREQ, 0, b"x"), "DISCONNECT with a body": packet(14, 0, b"x"),
        "PUBLISH, empty": packet(PUBLISH, 0), "PUBLISH, its topic cut short": packet(PUBLISH, 0, string(name)[:-1]),
        "PUBLISH, its identifier cut short": packet(PUBLISH, 2, string(name) + b"\0"),
        "SUBSCRIBE, empty": packet(SUBSCRIBE, 2), "SUBSCRIBE, its QoS missing": packet(SUBSCRIBE, 2, b"\0\1" + string(name)),
        "SUBSCRIBE, its filter cut short": packet(SUBSCRIBE, 2, b"\0\1" + string(name)[:-1]),
        "SUBSCRIBE, something behind": packet(SUBSCRIBE, 2, subscribe(1, (name, 0))[2:] + b"\0"),
        "UNSUBSCRIBE, empty": packet(UNSUBSCRIBE, 2), "UNSUBSCRIBE, its filter cut short": packet(
            UNSUBSCRIBE, 2, b"\0\1" + string(name)[:-1]),
        "UNSUBSCRIBE, something behind": packet(UNSUBSCRIBE, 2, unsubscribe(1, name)[2:] + b"\0"),
    }


ACKS = (("PUBACK", PUBACK, 0), ("PUBREC", PUBREC, 0), ("PUBREL", PUBREL, 2), ("PUBCOMP", PUBCOMP, 0))


@statement("4.8.0-1", {
    **HANGS,
    "reserved types are ignored": drop(15, side=UP),
    "PINGRESP is ignored": drop(PINGRESP, side=UP),
    "PUBACK of any length will do": repaired(PUBACK, lambda p: type(p)(p.kind, 0, b"\0\1")),
})
def test_4_8_0_1_protocol_violations(bench):
    """Each by a client of its own; the others are not concerned."""
    other = bench.subscriber("other", "o")
    bench.every_closes(violations(bench))
    bench.publish("o", "x")
    other.expect_message(bench.topic("o"), "x")


@statement("4.8.0-2", {
    **HANGS,
    "it is acknowledged and lost": add_at_close(answer(PUBACK, 1), answer(PUBACK, 1)),
    "it is stored all the same": repeat(PUBLISH, on=4, times=1),
    "it lasts": change(CONNACK, byte(1, UNAVAILABLE), on=5),
})
def test_4_8_0_2_transient_error(bench):
    """Memory runs out: who publishes at QoS 1 and 2 loses the connection, with no acknowledgement and nothing stored. Once
    there is memory again all is well."""
    bench.configure("memory_limit 300000\nmax_queued_messages 0\n")
    name = bench.topic("t")
    bench.subscriber("away", "t", clean=False).disconnect()
    watch = bench.subscriber("watch", ("t", 0))
    one, two = bench.connect("one"), bench.connect("two")
    stored = 0
    try:
        while True:
            one.send(publish(name, b"x" * 1000, 1, mid=1))
            one.expect(PUBACK, 1)
            stored += 1
    except (Closed, ConnectionError):
        pass
    assert stored > 10
    two.send(publish(name, b"x" * 1000, 2, mid=2))
    two.expect_closed()
    for _ in range(stored):
        watch.expect_message(name)
    watch.expect_nothing()
    away = bench.connect("away", clean=False, present=True)
    for _ in range(stored):
        away.expect_message(name)
    away.expect_nothing()
    again = bench.connect("one")
    again.publish(name, b"x" * 1000, 2)
    away.expect_message(name)
