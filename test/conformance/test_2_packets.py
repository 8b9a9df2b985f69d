"""Chapter 2: the fixed header and packet identifiers."""

import rawmqtt
from bench import statement
from breakers import HANGS, body, change, drop, flags, mid, other_mid, repaired
from rawmqtt import (CONNACK, CONNECT, DISCONNECT, PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK,
                     SUBSCRIBE, UNSUBACK, UNSUBSCRIBE, ack, packet, publish, string, subscribe, unsubscribe)

TABLE_2_2 = {CONNACK: 0, PUBACK: 0, PUBREC: 0, PUBREL: 2, PUBCOMP: 0, SUBACK: 0, UNSUBACK: 0, PINGRESP: 0}
IDS = (1, 255, 256, 0x1234, 65535)


@statement("2.2.2-1", {f"{rawmqtt.NAMES[kind]} with wrong flags": change(kind, flags(lambda f: f ^ 1)) for kind in TABLE_2_2})
def test_2_2_2_1_reserved_flags_of_the_broker(bench):
    client = bench.client()
    client.send(rawmqtt.connect(bench.id("flags")))
    name = bench.topic("flags")

    def expect(kind):
        got = client.next()
        assert (got.kind, got.flags) == (kind, TABLE_2_2[kind]), f"expected {rawmqtt.NAMES[kind]}, got {got}"
        return got

    expect(CONNACK)
    client.send(subscribe(1, (name, 2)))
    expect(SUBACK)
    client.send(packet(PINGREQ, 0))
    expect(PINGRESP)
    client.send(publish(bench.topic("elsewhere"), "x", 1, mid=2))
    expect(PUBACK)
    client.send(publish(bench.topic("elsewhere"), "x", 2, mid=3))
    expect(PUBREC)
    client.send(ack(PUBREL, 3))
    expect(PUBCOMP)
    bench.publish("flags", "x", 2)
    got = client.expect(PUBLISH)
    client.send(ack(PUBREC, got.mid))
    expect(PUBREL)
    client.send(ack(PUBCOMP, got.mid), unsubscribe(4, name))
    expect(UNSUBACK)


def wrong_flags(data):
    """The packet with each of the four bits turned over, and all of them."""
    return {bits: bytes([data[0] ^ bits]) + data[1:] for bits in (1, 2, 4, 8, 15)}


RIGHT_FLAGS = {"SUBSCRIBE": subscribe(1, ("x", 0)), "UNSUBSCRIBE": unsubscribe(1, "x"), "PUBACK": ack(PUBACK, 1),
               "PUBREC": ack(PUBREC, 1), "PUBREL": ack(PUBREL, 1), "PUBCOMP": ack(PUBCOMP, 1),
               "PINGREQ": packet(PINGREQ, 0), "DISCONNECT": packet(DISCONNECT, 0)}


@statement("2.2.2-2", {
    **HANGS,
    "it takes PINGREQ with any flags": repaired(PINGREQ, flags(0)),
    "it takes SUBSCRIBE with any flags": repaired(SUBSCRIBE, flags(2)),
    "it takes CONNECT with any flags": repaired(CONNECT, flags(0)),
})
def test_2_2_2_2_invalid_flags(bench):
    bench.every_is_no_connect({f"CONNECT ^ {bits}": data for bits, data in
                               wrong_flags(rawmqtt.connect(bench.id("x"))).items()})
    bench.every_closes({f"{name} ^ {bits}": data for name, right in RIGHT_FLAGS.items()
                        for bits, data in wrong_flags(right).items()})
    bench.every_closes({"PUBLISH with QoS 3": bytes([PUBLISH << 4 | 6]) + publish("x", "x", 1, mid=1)[1:]})


@statement("2.3.1-1", {
    **HANGS,
    "it takes SUBSCRIBE": repaired(SUBSCRIBE, mid(1)),
    "it takes UNSUBSCRIBE": repaired(UNSUBSCRIBE, mid(1)),
    "it takes PUBLISH": repaired(PUBLISH, mid(1)),
})
def test_2_3_1_1_identifier_zero(bench):
    bench.every_closes({"SUBSCRIBE": subscribe(0, (bench.topic("x"), 0)), "UNSUBSCRIBE": unsubscribe(0, bench.topic("x")),
                        "PUBLISH, QoS 1": publish(bench.topic("x"), "x", 1, mid=0),
                        "PUBLISH, QoS 2": publish(bench.topic("x"), "x", 2, mid=0)})


@statement("2.3.1-4", {
    "identifier 0": change(PUBLISH, mid(0), times=1),
    "an identifier that is in use": change(PUBLISH, mid(1), skip=1, times=2),
    "another identifier when sent again": change(PUBLISH, other_mid(), skip=4),
})
def test_2_3_1_4_identifiers_of_the_broker(bench):
    sent = [("one", 1), ("two", 2), ("three", 1), ("four", 2)]
    client = bench.subscriber("ids", "t", clean=False)
    for payload, qos in sent:
        bench.publish("t", payload, qos)
    first = [client.receive(acknowledge=False) for _ in sent]
    assert [(p.payload.decode(), p.qos) for p in first] == sent
    ids = [p.mid for p in first]
    assert 0 not in ids and len(set(ids)) == len(ids), ids
    client.lose()
    client = bench.connect("ids", clean=False)
    again = [client.receive(acknowledge=False) for _ in sent]
    assert [(p.payload, p.mid) for p in again] == [(p.payload, p.mid) for p in first]


@statement("2.3.1-4", {
    "an identifier in use is given again when all have been": change(PUBLISH, mid(1), skip=65540, times=10),
    "acknowledged identifiers are never free again": drop(PUBLISH, skip=65535),
}, ways=("tcp",))
def test_2_3_1_4_identifiers_are_free_again(bench):
    """One message stays unacknowledged while more than 65535 others come and go."""
    client = bench.subscriber("wheel", ("t", 1))
    bench.publish("t", "kept")
    kept = client.receive(acknowledge=False).mid
    publisher = bench.direct("hundreds")
    batch = [publish(bench.topic("t"), "x", 1, mid=i + 1) for i in range(15)]  # brokers have 20 or more under way
    seen = set()
    came = repeated = 0
    while came < 65535 + 100:
        publisher.send(*batch)
        for _ in batch:
            publisher.expect(PUBACK)
        ids = [client.expect(PUBLISH).mid for _ in batch]
        assert kept not in ids and 0 not in ids and len(set(ids)) == len(ids), f"{kept} is in use, and then came {ids}"
        client.send(*(ack(PUBACK, i) for i in ids))
        repeated += len(seen.intersection(ids))
        seen.update(ids)
        came += len(ids)
    assert repeated > 0


@statement("2.3.1-5", {
    "there is one": change(PUBLISH, body(lambda b: b[:2 + b[1]] + b"\0\7" + b[2 + b[1]:]))})
def test_2_3_1_5_no_identifier_at_qos_0(bench):
    client = bench.subscriber("low", ("t", 0))
    for qos in (0, 1, 2):
        bench.publish("t", b"\0\1payload", qos)
        got = client.expect(PUBLISH)
        assert got.body == string(bench.topic("t")) + b"\0\1payload" and got.qos == 0, str(got)


@statement("2.3.1-6", {f"{rawmqtt.NAMES[kind]} has another": change(kind, other_mid())
                       for kind in (PUBACK, PUBREC, PUBREL, PUBCOMP)})
def test_2_3_1_6_identifiers_of_acknowledgements(bench):
    client = bench.connect("acks")
    for i in IDS:
        client.send(publish(bench.topic("t"), "x", 1, mid=i))
        client.expect(PUBACK, i)
        client.send(publish(bench.topic("t"), "x", 2, mid=i))
        client.expect(PUBREC, i)
        client.send(ack(PUBREL, i))
        client.expect(PUBCOMP, i)
    client.subscribe((bench.topic("t"), 2))
    for _ in range(3):
        bench.publish("t", "x", 2)
    ids = [client.expect(PUBLISH).mid for _ in range(3)]
    for i in reversed(ids):
        client.send(ack(PUBREC, i))
        client.expect(PUBREL, i)
        client.send(ack(PUBCOMP, i))


@statement("2.3.1-7", {f"{rawmqtt.NAMES[kind]} has another": change(kind, other_mid()) for kind in (SUBACK, UNSUBACK)})
def test_2_3_1_7_identifiers_of_suback_and_unsuback(bench):
    client = bench.connect("ids")
    for i in IDS:
        client.send(subscribe(i, (bench.topic("t"), 1)))
        client.expect(SUBACK, i)
        client.send(unsubscribe(i, bench.topic("t")))
        client.expect(UNSUBACK, i)
