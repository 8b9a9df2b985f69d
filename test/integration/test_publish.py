"""PUBLISH from end to end: QoS, order, duplicates, retained messages, wildcards."""

import pytest

from rawmqtt import PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK, ack, publish, subscribe


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_message_reaches_subscriber(anywhere, qos):
    reader, writer = anywhere.connect("reader"), anywhere.connect("writer")
    assert reader.subscribe(("a/+/c", qos)) == [qos]
    writer.publish("a/b/c", "hello", qos)
    reader.expect_message("a/b/c", "hello", qos, retain=False, dup=False)
    reader.expect_nothing()
    reader.disconnect()
    writer.disconnect()


@pytest.mark.parametrize("sent", [0, 1, 2])
@pytest.mark.parametrize("granted", [0, 1, 2])
def test_delivered_at_the_lower_qos(start, sent, granted):
    client = start().connect()
    client.subscribe(("t", granted))
    client.send(publish("t", "x", sent, mid=9))
    answers = [client.next() for _ in range(2 if sent else 1)]
    (got,) = [p for p in answers if p.kind == PUBLISH]
    assert (got.qos, got.payload) == (min(sent, granted), b"x")


def test_order_is_kept(anywhere):
    """Per QoS, in the order of sending; many at once, so that queues and windows are used."""
    reader, writer = anywhere.connect("reader"), anywhere.connect("writer")
    reader.subscribe(("t/#", 2))
    count = 300
    writer.send(*(publish(f"t/{qos}", f"{i}", qos, mid=qos and 1 + 2 * i + qos) for i in range(count) for qos in (0, 1, 2)))
    acks = [writer.next() for _ in range(2 * count)]
    assert [p.mid for p in acks if p.kind == PUBACK] == [2 + 2 * i for i in range(count)]
    assert [p.mid for p in acks if p.kind == PUBREC] == [3 + 2 * i for i in range(count)]
    seen = {0: [], 1: [], 2: []}
    open_ids = 0
    while open_ids or sum(map(len, seen.values())) < 3 * count:
        got = reader.next()
        if got.kind == PUBLISH:
            seen[got.qos].append(int(got.payload))
            assert got.topic == f"t/{got.qos}"
            if got.qos:
                reader.send(ack(PUBACK if got.qos == 1 else PUBREC, got.mid))
                open_ids += got.qos == 2
        else:
            assert got.kind == PUBREL
            reader.send(ack(PUBCOMP, got.mid))
            open_ids -= 1
    assert all(numbers == list(range(count)) for numbers in seen.values())


def test_qos2_repeated_publish_is_routed_once(anywhere):
    reader, writer = anywhere.connect("reader"), anywhere.connect("writer")
    reader.subscribe(("t", 0))
    for dup in (False, True, True):
        writer.send(publish("t", "once", 2, mid=7, dup=dup))
        writer.expect(PUBREC, 7)
    writer.send(ack(PUBREL, 7))
    writer.expect(PUBCOMP, 7)
    reader.expect_message("t", "once")
    writer.send(publish("t", "again", 2, mid=7))  # the identifier is free again
    writer.expect(PUBREC, 7)
    reader.expect_message("t", "again")
    reader.expect_nothing()


def test_qos2_identifiers_of_a_dropped_connection_are_kept(start):
    """PUBLISH, PUBREC, then the connection breaks: the repetition after the resume is not routed again."""
    broker = start()
    reader = broker.connect("reader")
    reader.subscribe(("t", 1))
    writer = broker.connect("writer", clean=False)
    writer.send(publish("t", "once", 2, mid=3))
    writer.expect(PUBREC, 3)
    reader.expect_message("t", "once")
    writer.reset()
    writer = broker.client()
    assert writer.connect("writer", clean=False)
    writer.send(publish("t", "once", 2, mid=3, dup=True))
    writer.expect(PUBREC, 3)
    writer.send(ack(PUBREL, 3))
    writer.expect(PUBCOMP, 3)
    reader.expect_nothing()


def test_unknown_pubrel_is_answered(start):
    client = start().connect()
    client.send(ack(PUBREL, 77))
    client.expect(PUBCOMP, 77)


def test_overlapping_subscriptions_deliver_once_at_the_highest_qos(start):
    broker = start()
    reader, writer = broker.connect("reader"), broker.connect("writer")
    assert reader.subscribe(("a/#", 0), ("a/+", 2), ("a/b", 1)) == [0, 2, 1]
    writer.publish("a/b", "x", 2)
    reader.expect_message("a/b", "x", 2)
    reader.expect_nothing()
    reader.unsubscribe("a/+")
    writer.publish("a/b", "y", 2)
    reader.expect_message("a/b", "y", 1)
    reader.expect_nothing()
    reader.unsubscribe("a/b", "a/#", "never/subscribed")
    writer.publish("a/b", "z", 2)
    reader.expect_nothing()


def test_subscribing_again_replaces(start):
    client = start().connect()
    assert client.subscribe(("t", 0)) == [0]
    assert client.subscribe(("t", 2)) == [2]
    client.send(publish("t", "x", 1, mid=5))
    kinds = {client.next().kind, client.next().kind}
    assert kinds == {PUBACK, PUBLISH}
    client.expect_nothing()


WILDCARDS = [
    ("sport/tennis/player1/#", ["sport/tennis/player1", "sport/tennis/player1/ranking",
                                "sport/tennis/player1/score/wimbledon"]),
    ("sport/#", ["sport", "sport/tennis/player1", "sport/tennis/player1/ranking", "sport/",
                 "sport/tennis/player1/score/wimbledon"]),
    ("sport/+", ["sport/"]),
    ("+", ["sport"]),
    ("+/+", ["sport/", "/finance"]),
    ("/+", ["/finance"]),
    ("#", ["sport", "sport/", "/finance", "sport/tennis/player1", "sport/tennis/player1/ranking",
           "sport/tennis/player1/score/wimbledon"]),
    ("$own/#", ["$own/x"]),
    ("+/x", []),
]
TOPICS = ["sport", "sport/", "/finance", "sport/tennis/player1", "sport/tennis/player1/ranking",
          "sport/tennis/player1/score/wimbledon", "$own/x"]


@pytest.mark.parametrize("pattern,matching", WILDCARDS)
@pytest.mark.parametrize("retained", [False, True])
def test_wildcards(start, pattern, matching, retained):
    broker = start()
    reader, writer = broker.connect("reader"), broker.connect("writer")
    if not retained:
        reader.subscribe((pattern, 0))
    for topic in TOPICS:
        writer.publish(topic, "x", 1, retain=retained)
    if retained:
        reader.subscribe((pattern, 0))
    got = [reader.receive() for _ in matching]
    assert sorted(p.topic for p in got) == sorted(matching)
    assert all(p.retain == retained for p in got)
    reader.expect_nothing()


def test_retained_message_is_sent_to_new_subscribers(anywhere):
    reader, writer = anywhere.connect("reader"), anywhere.connect("writer")
    reader.subscribe(("t", 1))
    writer.publish("t", "first", 1, retain=True)
    reader.expect_message("t", "first", 1, retain=False)  # an ordinary message to who was there already
    writer.publish("t", "second", 1, retain=True)
    reader.expect_message("t", "second", 1, retain=False)
    later = anywhere.connect("later")
    later.subscribe(("t", 2))
    later.expect_message("t", "second", 1, retain=True)
    later.expect_nothing()
    reader.subscribe(("t", 0))  # the same subscription again: retained messages come again
    reader.expect_message("t", "second", 0, retain=True)


def test_retained_message_is_removed_by_an_empty_one(start):
    broker = start()
    reader, writer = broker.connect("reader"), broker.connect("writer")
    writer.publish("t", "kept", 1, retain=True)
    writer.publish("t", "not kept", 1)
    reader.subscribe(("t", 1))
    reader.expect_message("t", "kept", 1, retain=True)
    writer.publish("t", "", 1, retain=True)
    reader.expect_message("t", "", 1, retain=False)
    later = broker.connect("later")
    later.subscribe(("#", 1))
    later.expect_nothing()


def test_retained_messages_follow_the_suback(start):
    client = start().connect()
    for i in range(200):
        client.publish(f"many/{i}", f"{i}", 0, retain=True)
    client.send(subscribe(9, ("many/#", 2)))
    client.expect(SUBACK, 9)
    assert {client.receive().payload for _ in range(200)} == {str(i).encode() for i in range(200)}
    client.expect_nothing()


def test_publisher_gets_its_own_messages(start):
    client = start().connect()
    client.subscribe(("t", 0))
    client.publish("t", "me")
    client.expect_message("t", "me")


def test_empty_and_binary_payloads(anywhere):
    client = anywhere.connect()
    client.subscribe(("t", 0))
    for payload in (b"", bytes(range(256)), b"\0" * 5000):
        client.publish("t", payload)
        client.expect_message("t", payload)


@pytest.mark.parametrize("size", [127, 128, 16383, 16384, 100_000, 1 << 20])
def test_sizes(anywhere, size):
    """Around the lengths at which the header grows, and far beyond one read."""
    reader, writer = anywhere.connect("reader"), anywhere.connect("writer")
    reader.subscribe(("t", 1))
    payload = bytes(i * 7 & 255 for i in range(256)) * (size // 256 + 1)
    writer.publish("t", payload[:size], 1)
    reader.expect_message("t", payload[:size], 1)


def test_packet_in_single_bytes(start):
    """The smallest pieces that a network may make of packets."""
    client = start().connect()
    client.subscribe(("t", 0))
    for byte in publish("t", "slowly", 0) + publish("t", "x" * 200, 0):
        client.send(bytes([byte]))
    client.expect_message("t", "slowly")
    client.expect_message("t", "x" * 200)


def test_many_packets_in_one_piece(start):
    client = start().connect()
    client.subscribe(("t", 0))
    count = 5000
    client.send(*(publish("t", str(i)) for i in range(count)))
    assert [int(client.receive().payload) for _ in range(count)] == list(range(count))


def test_several_filters_one_suback(start):
    client = start().connect()
    filters = [(f"f/{i}", i % 3) for i in range(1000)]
    assert client.subscribe(*filters) == [q for _, q in filters]
