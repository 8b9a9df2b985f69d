"""Chapters 4.1 to 4.6: sessions, qualities of service, order."""

from bench import statement
from breakers import UP, add_before, answer, aside, change, clean, drop, dup, message, mid, other_mid, qos, repeat, swap
from rawmqtt import CONNACK, CONNECT, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, Packet, ack, publish

# ---- 4.1: state

@statement("4.1.0-1", {
    "it is discarded": change(CONNECT, clean(True), side=UP, on=1) + change(CONNACK, lambda p: Packet(p.kind, 0, b"\1\0"), on=1),
    "unacknowledged messages are lost": drop(PUBLISH, when=lambda p: p.dup),
    "PUBREL is lost": drop(PUBREL, on=1),
    "waiting messages are lost": drop(PUBLISH, when=lambda p: p.payload == b"waiting"),
    "QoS 2 identifiers are lost": aside(PUBLISH, lambda bench: bench.publish("echo", "once"), times=1, on=2),
    "subscriptions are lost": drop(PUBLISH, when=lambda p: p.payload == b"later"),
})
def test_4_1_0_1_session_state_is_kept(bench):
    """All that section 3.1.2.4 counts as its state."""
    name = bench.topic("t")
    watch = bench.subscriber("watch", "echo")
    client = bench.subscriber("kept", "t", clean=False)
    client.send(publish(bench.topic("echo"), "once", 2, mid=77))
    client.expect(PUBREC, 77)
    for text, level in (("one", 1), ("two", 2), ("released", 2)):
        bench.publish("t", text, level)
    ids = [client.expect_message(name, text, acknowledge=False).mid for text in ("one", "two", "released")]
    client.send(ack(PUBREC, ids[2]))
    client.expect(PUBREL, ids[2])
    client.lose()
    bench.publish("t", "waiting", 1)
    for _ in range(3):
        client = bench.connect("kept", clean=False, present=True)
        got = [client.next() for _ in range(4)]
        assert sorted((p.kind, p.mid) for p in got[:3]) == sorted([(PUBLISH, ids[0]), (PUBLISH, ids[1]), (PUBREL, ids[2])])
        assert got[3].kind == PUBLISH and got[3].payload == b"waiting", str(got[3])
        client.send(publish(bench.topic("echo"), "once", 2, mid=77, dup=True))
        client.expect(PUBREC, 77)
        client.disconnect()
    client = bench.connect("kept", clean=False, present=True)
    for _ in range(4):
        client.next()
    client.send(ack(PUBREL, 77))
    client.expect(PUBCOMP, 77)
    watch.expect_message(bench.topic("echo"), "once")
    watch.expect_nothing()
    bench.publish("t", "later", 1)
    client.expect_message(name, "later")


@statement("4.1.0-2", {
    "its subscription is gone": drop(PUBLISH, when=lambda p: p.payload == b"end"),
    "its identifiers are gone": aside(PUBLISH, lambda bench: bench.publish("echo", "once"), when=lambda p: p.dup),
    "its PUBREL is gone": drop(PUBREL),
    "the next one finds it": change(CONNACK, lambda p: Packet(p.kind, 0, b"\1\0"), skip=2),
})
def test_4_1_0_2_session_lasts_as_long_as_its_connection(bench):
    """Of a clean session, whatever others do meanwhile."""
    name = bench.topic("t")
    watch = bench.subscriber("watch", "echo")
    client = bench.subscriber("clean", "t", ("u", 1))
    bench.publish("t", "open", 2)
    under_way = client.expect_message(name, "open", 2, acknowledge=False).mid
    client.send(publish(bench.topic("echo"), "once", 2, mid=77))
    client.expect(PUBREC, 77)
    for i in range(20):
        other = bench.direct(f"other{i % 3}", clean=bool(i % 2))
        other.subscribe((name, i % 3))
        other.unsubscribe(name)
        other.disconnect()
        client.ping()
    client.unsubscribe(bench.topic("u"))
    client.send(publish(bench.topic("echo"), "once", 2, mid=77, dup=True))
    client.expect(PUBREC, 77)
    client.send(ack(PUBREL, 77))
    client.expect(PUBCOMP, 77)
    watch.expect_message(bench.topic("echo"), "once")
    watch.expect_nothing()
    client.send(ack(PUBREC, under_way))
    client.expect(PUBREL, under_way)
    bench.publish("t", "end", 1)
    client.expect_message(name, "end", 1)
    client.lose()
    bench.connect("clean", clean=False, present=False)


# ---- 4.3: the three qualities of service

@statement("4.3.1-1", {
    "DUP is set": change(PUBLISH, dup()),
    "QoS is 1": change(PUBLISH, qos(1)),
    "QoS is that of the message": change(PUBLISH, qos(2), when=lambda p: p.payload == b"2"),
})
def test_4_3_1_1_qos_0_sender(bench):
    client = bench.subscriber("sub", ("t", 0))
    for level in (0, 1, 2):
        bench.publish("t", str(level), level)
        client.expect_message(bench.topic("t"), str(level), 0, dup=False)
    client.expect_nothing()


@statement("4.3.2-1", {
    "the identifier is in use": change(PUBLISH, mid(1)),
    "DUP is set at once": change(PUBLISH, dup()),
    "it is done without PUBACK": drop(PUBLISH, on=1),
    "it is not done with PUBACK": drop(PUBACK, side=UP),
    "it is sent again": repeat(PUBLISH, skip=1),
})
def test_4_3_2_1_qos_1_sender(bench):
    name = bench.topic("t")
    client = bench.subscriber("sub", ("t", 1), clean=False)
    texts = ["one", "two", "three"]
    for text in texts:
        bench.publish("t", text)
    ids = [client.expect_message(name, text, 1, dup=False, acknowledge=False).mid for text in texts]
    assert len(set(ids)) == 3 and 0 not in ids, ids
    client.expect_nothing()
    client.send(ack(PUBACK, ids[0]))
    client.ping()
    client.lose()
    client = bench.connect("sub", clean=False)
    for text, i in zip(texts[1:], ids[1:]):
        assert client.expect_message(name, text, 1, dup=True, acknowledge=False).mid == i
    client.expect_nothing()
    client.send(ack(PUBACK, ids[2]), ack(PUBACK, ids[1]))
    client.disconnect()
    bench.connect("sub", clean=False, present=True).expect_nothing()


@statement("4.3.2-2", {
    "no PUBACK": drop(PUBACK),
    "PUBACK, and the message is lost": drop(PUBLISH),
    "PUBACK, and the message goes with its publisher": drop(PUBLISH, on=0),
    "the same identifier is taken for a repetition": drop(PUBLISH, when=lambda p: p.payload == b"new"),
    "the same identifier with DUP is taken for a repetition": drop(PUBLISH, when=lambda p: p.payload == b"newer"),
})
def test_4_3_2_2_qos_1_receiver(bench):
    name = bench.topic("t")
    watch = bench.subscriber("watch", "t")
    bench.subscriber("kept", "t", clean=False).disconnect()
    client = bench.connect("pub")
    for text, flag in (("first", False), ("new", False), ("newer", True), ("newer", True)):
        client.send(publish(name, text, 1, mid=7, dup=flag))
        client.expect(PUBACK, 7)
    client.lose()
    kept = bench.connect("kept", clean=False)
    for text in ("first", "new", "newer", "newer"):
        watch.expect_message(name, text, 1, dup=False)
        kept.expect_message(name, text, 1, dup=False)


@statement("4.3.3-1", {
    "the identifier is in use": change(PUBLISH, mid(1)),
    "DUP is set at once": change(PUBLISH, dup(), on=0),
    "PUBREC is not answered": drop(PUBREL),
    "PUBREC is answered by PUBCOMP": change(PUBREL, lambda p: answer(PUBCOMP, p.mid)),
    "PUBLISH is sent again after PUBREL": change(
        PUBREL, lambda p: Packet(PUBLISH, 12, b"\0\1t" + p.body + b"one"), on=1),
    "both are sent again": add_before(PUBREL, message("t", "one", 2, mid=1, dup=True), on=1),
    "it is done without PUBREC": drop(PUBLISH, on=1),
    "it is done without PUBCOMP": drop(PUBREL, on=1),
    "it is not done with PUBCOMP": drop(PUBCOMP, side=UP, on=1),
})
def test_4_3_3_1_qos_2_sender(bench):
    name = bench.topic("t")
    client = bench.subscriber("sub", "t", clean=False)
    bench.publish("t", "one", 2)
    bench.publish("t", "two", 2)
    one, two = (client.expect_message(name, text, 2, dup=False, acknowledge=False).mid for text in ("one", "two"))
    assert one != two and one and two
    client.expect_nothing()
    client.send(ack(PUBREC, one))
    client.expect(PUBREL, one)
    client.lose()
    client = bench.connect("sub", clean=False)
    got = sorted((p.kind, p.mid) for p in (client.next(), client.next()))
    assert got == sorted([(PUBREL, one), (PUBLISH, two)]), got
    client.expect_nothing()
    client.send(ack(PUBCOMP, one), ack(PUBREC, two))
    client.expect(PUBREL, two)
    client.send(ack(PUBCOMP, two))
    client.disconnect()
    bench.connect("sub", clean=False, present=True).expect_nothing()


@statement("4.3.3-2", {
    "a repetition is delivered": aside(PUBLISH, lambda bench: bench.publish("t", "one", 2), times=1, when=lambda p: p.dup),
    "a repetition is not answered": drop(PUBREC, skip=1, times=1),
    "it is not delivered at all": drop(PUBLISH),
    "it is delivered twice": repeat(PUBLISH),
    "after PUBCOMP it is still a repetition": drop(PUBLISH, when=lambda p: p.payload == b"two"),
    "PUBREL is not answered": drop(PUBCOMP),
    "a repeated PUBREL is not answered": drop(PUBCOMP, skip=1),
    "PUBREL for an unknown identifier is not answered": drop(PUBCOMP, when=lambda p: p.mid == 999),
    "a repetition over another connection is delivered": aside(PUBLISH, lambda bench: bench.publish("t", "three", 2), on=2),
})
def test_4_3_3_2_qos_2_receiver(bench):
    """Whether the message is passed on at PUBLISH or at PUBREL is the broker's choice; it is once."""
    name = bench.topic("t")
    watch = bench.subscriber("watch", "t")
    client = bench.connect("pub", clean=False)

    def sent(text, i, *flags):
        for flag in flags:
            client.send(publish(name, text, 2, mid=i, dup=flag))
            client.expect(PUBREC, i)

    def released(i):
        client.send(ack(PUBREL, i))
        client.expect(PUBCOMP, i)

    sent("one", 7, False, True, True, True)
    for i in (7, 7, 999):
        released(i)
    watch.expect_message(name, "one", 2, dup=False)
    watch.expect_nothing()
    sent("two", 7, False)
    released(7)
    watch.expect_message(name, "two", 2)
    watch.expect_nothing()
    sent("three", 8, False)
    client.lose()
    client = bench.connect("pub", clean=False, present=True)
    sent("three", 8, True)
    released(8)
    watch.expect_message(name, "three", 2)
    watch.expect_nothing()


@statement("4.3.3-2", {
    "one is lost": drop(PUBLISH, skip=50, times=1),
    "one comes twice": repeat(PUBLISH, skip=99),
    "PUBREC is owing": drop(PUBREC, skip=50, times=1),
    "PUBCOMP is owing": drop(PUBCOMP, skip=50, times=1),
})
def test_4_3_3_2_many_flows_at_once(bench):
    """What PUBREC has promised is kept, however many there are."""
    name = bench.topic("t")
    watch = bench.subscriber("watch", ("t", 1))
    client = bench.connect("pub")
    client.send(*(publish(name, str(i), 2, mid=i) for i in range(1, 101)))
    for i in range(1, 101):
        client.expect(PUBREC, i)
    client.send(*(ack(PUBREL, i) for i in range(1, 101)))
    for i in range(1, 101):
        client.expect(PUBCOMP, i)
    for i in range(1, 101):
        watch.expect_message(name, str(i), 1)
    watch.expect_nothing()


# ---- 4.4 and 4.5

@statement("4.4.0-1", {
    "PUBLISH of QoS 1 is not sent again": drop(PUBLISH, when=lambda p: p.dup and p.qos == 1),
    "PUBLISH of QoS 2 is not sent again": drop(PUBLISH, when=lambda p: p.dup and p.qos == 2),
    "PUBREL is not sent again": drop(PUBREL, on=1),
    "PUBLISH has another identifier": change(PUBLISH, other_mid(), on=1),
    "PUBREL has another identifier": change(PUBREL, other_mid(), on=1),
    "only once": drop(PUBREL, on=2),
})
def test_4_4_0_1_sent_again_on_resume(bench):
    client = bench.subscriber("sub", "t", clean=False)
    for text, level in (("one", 1), ("two", 2), ("three", 2)):
        bench.publish("t", text, level)
    ids = [client.receive(acknowledge=False).mid for _ in range(3)]
    client.send(ack(PUBREC, ids[1]))
    client.expect(PUBREL, ids[1])
    for ends in ("lose", "disconnect", "reset"):
        getattr(client, ends)()
        client = bench.connect("sub", clean=False, present=True)
        got = sorted((p.kind, p.mid) for p in (client.next() for _ in range(3)))
        assert got == sorted([(PUBLISH, ids[0]), (PUBREL, ids[1]), (PUBLISH, ids[2])]), got
        client.expect_nothing()


@statement("4.5.0-1", {
    "one is forgotten": drop(PUBLISH, on=2),
    "an absent one is forgotten": drop(PUBLISH, on=6),
    "its publisher is forgotten": drop(PUBLISH, on=4),
    "one gets it twice": repeat(PUBLISH, on=1),
})
def test_4_5_0_1_every_matching_session(bench):
    filters = ("a/b", "a/+", "#", "a/#")
    clients = [bench.subscriber(f"sub{i}", (pattern, i % 3)) for i, pattern in enumerate(filters)]
    publisher = bench.subscriber("own", ("a/b", 1))
    bench.subscriber("away", ("+/b", 1), clean=False).disconnect()
    publisher.publish(bench.topic("a/b"), "x", 2)
    for i, client in enumerate(clients):
        client.expect_message(bench.topic("a/b"), "x", i % 3)
        client.expect_nothing()
    publisher.expect_message(bench.topic("a/b"), "x", 1)
    bench.connect("away", clean=False).expect_message(bench.topic("a/b"), "x", 1)


# ---- 4.6: order

def numbers(bench, topic, level, count, first=0):
    """A publisher sends them, 20 under way at a time, and waits until the broker has them all."""
    client = bench.direct("numbers")
    for start in range(0, count, 20):
        texts = range(start, min(start + 20, count))
        client.send(*(publish(bench.topic(topic), str(first + i), level, mid=level and i + 1) for i in texts))
        for _ in range(len(texts) * level):
            got = client.next()
            if got.kind == PUBREC:
                client.send(ack(PUBREL, got.mid))
    client.ping()
    client.disconnect()


@statement("4.6.0-1", {
    "two of QoS 1 change places": swap(PUBLISH, on=1),
    "two of QoS 2 change places": swap(PUBLISH, on=1, when=lambda p: p.qos == 2),
    "new ones come first": swap(PUBLISH, on=1, skip=9),
})
def test_4_6_0_1_order_of_what_is_sent_again(bench):
    client = bench.subscriber("sub", "t", clean=False)
    for level in (1, 2):
        numbers(bench, "t", level, 5, 5 * (level - 1))
    first = [client.receive(acknowledge=False) for _ in range(10)]
    assert [int(p.payload) for p in first] == list(range(10))
    client.lose()
    bench.publish("t", "10")
    client = bench.connect("sub", clean=False)
    again = [client.receive(acknowledge=False) for _ in range(11)]
    assert [int(p.payload) for p in again] == list(range(11))
    assert [p.dup for p in again] == [True] * 10 + [False]


@statement("4.6.0-2", {"two change places": swap(PUBACK), "the last two change places": swap(PUBACK, skip=48)})
def test_4_6_0_2_order_of_puback(bench):
    bench.subscriber("sub", ("t", 1))
    client = bench.connect("pub")
    ids = [i * 7 % 50 + 1 for i in range(50)]
    client.send(*(publish(bench.topic("t"), "x", 1, mid=i) for i in ids))
    assert [client.expect(PUBACK).mid for _ in ids] == ids


@statement("4.6.0-3", {"two change places": swap(PUBREC), "the last two change places": swap(PUBREC, skip=48)})
def test_4_6_0_3_order_of_pubrec(bench):
    bench.subscriber("sub", ("t", 1))
    client = bench.connect("pub")
    ids = [i * 7 % 50 + 1 for i in range(50)]
    client.send(*(publish(bench.topic("t"), "x", 2, mid=i) for i in ids))
    assert [client.expect(PUBREC).mid for _ in ids] == ids


@statement("4.6.0-4", {"two change places": swap(PUBREL), "the last two change places": swap(PUBREL, skip=8)})
def test_4_6_0_4_order_of_pubrel(bench):
    client = bench.subscriber("sub", "t")
    numbers(bench, "t", 2, 10)
    ids = [client.expect(PUBLISH).mid for _ in range(10)]
    ids = ids[::-3] + [i for i in ids if i not in ids[::-3]]
    client.send(*(ack(PUBREC, i) for i in ids))
    assert [client.expect(PUBREL).mid for _ in ids] == ids


@statement("4.6.0-5", {
    "two of QoS 0 change places": swap(PUBLISH, when=lambda p: p.qos == 0),
    "two of QoS 1 change places": swap(PUBLISH, when=lambda p: p.qos == 1),
    "two of QoS 2 change places": swap(PUBLISH, when=lambda p: p.qos == 2, skip=38),
})
def test_4_6_0_5_topics_are_ordered(bench):
    """Any of them, without a word in any configuration; more than may be under way at once."""
    client = bench.subscriber("sub", "0", "1", "2")
    for level in (0, 1, 2):
        numbers(bench, str(level), level, 40)
        got = []
        for _ in range(40):
            p = client.receive()
            assert (p.topic, p.qos) == (bench.topic(str(level)), level), str(p)
            got.append(int(p.payload))
        assert got == list(range(40))


@statement("4.6.0-6", {
    "two of one publisher change places": swap(PUBLISH, when=lambda p: p.payload[:1] == b"b" and p.qos == 1),
    "two of QoS 0 change places": swap(PUBLISH, when=lambda p: p.payload[:1] == b"a" and p.qos == 0),
    "two of QoS 2 change places": swap(PUBLISH, when=lambda p: p.payload[:1] == b"c" and p.qos == 2),
    "one is lost": drop(PUBLISH, skip=30, times=1),
})
def test_4_6_0_6_order_from_each_publisher(bench):
    """Three publish at once, each at the three qualities of service in turn."""
    client = bench.subscriber("sub", "t")
    publishers = {letter: bench.connect("pub" + letter) for letter in "abc"}
    count = 10
    for i in range(count):
        for letter, publisher in publishers.items():
            publisher.send(*(publish(bench.topic("t"), f"{letter}{i}", level, mid=2 * i + level) for level in (0, 1, 2)))
    for publisher in publishers.values():
        answers = [publisher.next() for _ in range(2 * count)]
        publisher.send(*(ack(PUBREL, p.mid) for p in answers if p.kind == PUBREC))
    got = {(letter, level): [] for letter in publishers for level in (0, 1, 2)}
    for _ in range(9 * count):
        p = client.receive()
        got[p.payload[:1].decode(), p.qos].append(int(p.payload[1:]))
    for what, order in got.items():
        assert order == list(range(count)), f"{what}: {order}"
