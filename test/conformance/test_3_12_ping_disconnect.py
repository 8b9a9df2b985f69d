"""Chapters 3.12 to 3.14: PINGREQ and DISCONNECT."""

from bench import statement
from breakers import HANGS, add_before, aside, body, change, drop, flags, message, repaired
from rawmqtt import DISCONNECT, PINGREQ, PINGRESP, PUBLISH, packet


@statement("3.12.4-1", {
    "it is not": drop(PINGRESP),
    "the second one is not": drop(PINGRESP, skip=1),
    "it has a body": change(PINGRESP, body(lambda b: b"\0")),
})
def test_3_12_4_1_pingresp(bench):
    client = bench.connect("x", keepalive=0)
    for _ in range(3):
        client.send(packet(PINGREQ, 0), packet(PINGREQ, 0))
        for _ in range(2):
            got = client.next()
            assert (got.kind, got.flags, got.body) == (PINGRESP, 0, b""), str(got)


@statement("3.14.1-1", {
    "the will is not published": drop(PUBLISH),
    "any bits will do": repaired(DISCONNECT, flags(0)),
    **HANGS,
})
def test_3_14_1_1_reserved_bits_of_disconnect(bench):
    watch = bench.subscriber("watch", "will")

    def check(data):
        client = bench.mortal()
        client.send(data)
        client.expect_closed()
        watch.expect_message(bench.topic("will"), "gone")
    bench.every({f"bits {bits:04b}": packet(DISCONNECT, bits) for bits in range(1, 16)}, check)


@statement("3.14.4-3", {
    "it is published": aside(DISCONNECT, lambda bench: bench.publish("will", "gone")),
    "it is published when the connection is gone": add_before(PINGRESP, message("will", "gone"), on=0),
})
def test_3_14_4_3_disconnect_discards_the_will(bench):
    watch = bench.subscriber("watch", "will")
    for kept in (False, True):
        bench.mortal(clean=not kept).disconnect()
        watch.expect_nothing()
    client = bench.mortal()
    client.send(packet(DISCONNECT, 0), packet(DISCONNECT, 1))
    client.expect_closed()
    watch.expect_nothing()
