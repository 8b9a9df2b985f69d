"""Chapters 3.3 to 3.7: PUBLISH and its acknowledgements."""

import rawmqtt
from bench import statement
from breakers import (HANGS, UP, add_after, add_before, answer, change, drop, dup, flags, made, message, other_mid, payload,
                      qos, repaired, repeat, replace, retain, topic)
from rawmqtt import PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK, ack, packet, publish, string
from streams import Closed


def by_hand(body, bits=0):
    return packet(PUBLISH, bits, body)


# ---- DUP and QoS

@statement("3.3.1-1", {
    "QoS 1 comes with DUP 0": change(PUBLISH, dup(False), when=lambda p: p.dup and p.qos == 1),
    "QoS 2 comes with DUP 0": change(PUBLISH, dup(False), when=lambda p: p.dup and p.qos == 2),
})
def test_3_3_1_1_dup_of_what_is_sent_again(bench):
    client = bench.subscriber("slow", "t", clean=False)
    for level in (1, 2):
        bench.publish("t", "x", level)
        client.expect_message(bench.topic("t"), "x", level, dup=False, acknowledge=False)
    for ends in ("lose", "disconnect"):
        getattr(client, ends)()
        client = bench.connect("slow", clean=False)
        for level in (1, 2):
            client.expect_message(bench.topic("t"), "x", level, dup=True, acknowledge=False)


@statement("3.3.1-2", {
    **HANGS,
    "one with DUP is taken": repaired(PUBLISH, dup(False)),
})
def test_3_3_1_2_qos_0_with_dup_received(bench):
    watch = bench.subscriber("watch", "t")
    bench.every_closes({"a message": by_hand(string(bench.topic("t")) + b"x", 8),
                        "retained": by_hand(string(bench.topic("t")) + b"x", 9)})
    watch.expect_nothing()


@statement("3.3.1-2", {
    "one is sent with DUP": change(PUBLISH, dup(), times=1),
    "one from QoS 1 is sent with DUP": change(PUBLISH, dup(), skip=1, times=1),
    "a retained one is sent with DUP": change(PUBLISH, dup(), when=lambda p: p.retain),
})
def test_3_3_1_2_qos_0_never_has_dup(bench):
    client = bench.subscriber("low", ("t", 0))
    publisher = bench.connect("pub")
    name = bench.topic("t")
    publisher.send(publish(name, "0"), publish(name, "1", 1, mid=1, dup=True), publish(name, "2", 2, True, mid=2, dup=True))
    publisher.expect(PUBACK, 1)
    publisher.expect(PUBREC, 2)
    publisher.send(ack(PUBREL, 2))
    publisher.expect(PUBCOMP, 2)
    for text in "012":
        client.expect_message(name, text, 0, dup=False)
    bench.subscriber("later", ("t", 0)).expect_message(name, "2", 0, dup=False, retain=True)


@statement("3.3.1-3", {
    "it is passed on": change(PUBLISH, dup()),
    "it is passed on with QoS 2": change(PUBLISH, dup(), when=lambda p: p.qos == 2),
})
def test_3_3_1_3_dup_is_not_passed_on(bench):
    client = bench.subscriber("sub", "t")
    publisher = bench.connect("pub")
    for level, answered in ((1, PUBACK), (2, PUBREC)):
        for flag in (True, False):
            mid = publisher.mid()
            publisher.send(publish(bench.topic("t"), "x", level, mid=mid, dup=flag))
            publisher.expect(answered, mid)
            if level == 2:
                publisher.send(ack(PUBREL, mid))
                publisher.expect(PUBCOMP, mid)
            client.expect_message(bench.topic("t"), "x", level, dup=False)


@statement("3.3.1-4", {
    **HANGS,
    "it is taken for QoS 2": repaired(PUBLISH, flags(lambda f: f & 13 | 4)),
})
def test_3_3_1_4_qos_3(bench):
    body = string(bench.topic("t")) + b"\0\1x"
    bench.every_closes({f"flags {bits}": by_hand(body, bits) for bits in (6, 7, 14, 15)})


# ---- RETAIN

@statement("3.3.1-5", {
    "the message is not stored": change(PUBLISH, retain(False), side=UP),
    "QoS 1 is not stored": change(PUBLISH, qos(0), when=lambda p: p.qos == 1),
    "QoS 2 is not stored": change(PUBLISH, qos(1), when=lambda p: p.qos == 2),
    "the payload is not stored": change(PUBLISH, payload("")),
})
def test_3_3_1_5_retained_message_is_stored(bench):
    publisher = bench.connect("pub")
    for level in (0, 1, 2):
        publisher.publish(bench.topic(f"t{level}"), f"text {level}", level, retain=True)
    publisher.ping()
    publisher.disconnect()
    for level in (0, 1, 2):
        client = bench.subscriber(f"sub{level}", f"t{level}")
        client.expect_message(bench.topic(f"t{level}"), f"text {level}", level)
        client.expect_nothing()


@statement("3.3.1-6", {
    "one topic is missing": drop(PUBLISH, times=1),
    "an older message too": add_before(PUBLISH, message("a/1", "old", 0, True), when=lambda p: p.topic.endswith("a/1")),
    "an older message instead": change(PUBLISH, payload("old"), times=1),
    "another topic too": add_after(PUBLISH, message("b/1", "new", 0, True), times=1),
})
def test_3_3_1_6_retained_messages_for_a_new_subscription(bench):
    for text in ("old", "new"):
        for name in ("a/1", "a/2", "b/1"):
            bench.publish(name, text, 1, retain=True)
    client = bench.subscriber("sub", "a/+")
    got = sorted((p.topic, p.payload) for p in (client.receive(), client.receive()))
    assert got == [(bench.topic("a/1"), b"new"), (bench.topic("a/2"), b"new")]
    client.expect_nothing()


@statement("3.3.1-7", {
    "the older one stays": change(PUBLISH, retain(False), side=UP, when=lambda p: p.qos == 0),
    "both stay": add_before(PUBLISH, message("t", "old", 0, True)),
})
def test_3_3_1_7_retained_qos_0_replaces(bench):
    publisher = bench.connect("pub")
    for level in (2, 1, 0):
        publisher.publish(bench.topic("t"), "old", level, retain=True)
        publisher.publish(bench.topic("t"), "new", 0, retain=True)
        publisher.ping()
        client = bench.subscriber(f"sub{level}", "t")
        client.expect_message(bench.topic("t"), "new", 0)
        client.expect_nothing()


@statement("3.3.1-8", {
    "it comes with RETAIN 0": change(PUBLISH, retain(False)),
    "QoS 2 comes with RETAIN 0": change(PUBLISH, retain(False), when=lambda p: p.qos == 2),
})
def test_3_3_1_8_retain_flag_for_a_new_subscription(bench):
    for level in (0, 1, 2):
        bench.publish(f"t{level}", "x", level, retain=True)
    client = bench.connect("sub")
    for level in (0, 1, 2):
        assert client.subscribe((bench.topic(f"t{level}"), 2)) == [2]
        client.expect_message(bench.topic(f"t{level}"), "x", level, retain=True)


@statement("3.3.1-9", {
    "it comes with RETAIN 1": change(PUBLISH, retain()),
    "QoS 1 comes with RETAIN 1": change(PUBLISH, retain(), when=lambda p: p.qos == 1),
})
def test_3_3_1_9_retain_flag_for_an_established_subscription(bench):
    client = bench.subscriber("sub", "t")
    for level in (0, 1, 2):
        bench.publish("t", "x", level, retain=True)
        client.expect_message(bench.topic("t"), "x", level, retain=False)


@statement("3.3.1-10", {
    "it is not delivered": drop(PUBLISH, when=lambda p: not p.payload),
    "nothing is removed": change(PUBLISH, retain(False), side=UP, when=lambda p: not p.payload),
})
def test_3_3_1_10_empty_retained_message(bench):
    publisher = bench.connect("pub")
    for level in (0, 1, 2):
        publisher.publish(bench.topic("t"), "x", 1, retain=True)
        client = bench.subscriber("sub", "t")
        client.expect_message(bench.topic("t"), "x", 1, retain=True)
        publisher.publish(bench.topic("t"), "", level, retain=True)
        publisher.ping()
        client.expect_message(bench.topic("t"), "", level, retain=False)
        bench.subscriber("later", "t").expect_nothing()


@statement("3.3.1-11", {
    "it is stored": add_after(SUBACK, message("t", "", 1, True, mid=1), on=1),
    "it is stored where there was one": add_after(SUBACK, message("u", "", 1, True, mid=1), on=2),
})
def test_3_3_1_11_empty_retained_message_is_not_stored(bench):
    publisher = bench.connect("pub")
    publisher.publish(bench.topic("t"), "", 1, retain=True)
    publisher.publish(bench.topic("u"), "x", 1, retain=True)
    publisher.publish(bench.topic("u"), "", 1, retain=True)
    bench.subscriber("sub", "t").expect_nothing()
    bench.subscriber("sub2", "u").expect_nothing()


@statement("3.3.1-12", {
    "it is stored": change(PUBLISH, retain(), side=UP, when=lambda p: p.topic.endswith("t")),
    "it replaces": change(PUBLISH, retain(), side=UP, when=lambda p: p.payload == b"other"),
    "an empty one removes": change(PUBLISH, retain(), side=UP, when=lambda p: not p.payload),
})
def test_3_3_1_12_without_retain_nothing_is_stored(bench):
    publisher = bench.connect("pub")
    publisher.publish(bench.topic("kept"), "kept", 1, retain=True)
    for text in ("other", ""):
        for level in (0, 1, 2):
            publisher.publish(bench.topic("kept"), text, level)
            publisher.publish(bench.topic("not"), text, level)
        publisher.ping()
        client = bench.subscriber("sub", "kept", "not")
        client.expect_message(bench.topic("kept"), "kept", 1, retain=True)
        client.expect_nothing()


# ---- the topic

@statement("3.3.2-1", {
    **HANGS,
    "any bytes will do": repaired(PUBLISH, replace(b"\xed\xa0\x80", b"bad"), when=lambda p: b"\xed\xa0" in p.body),
})
def test_3_3_2_1_topic_comes_first(bench):
    bench.every_closes({
        "not UTF-8": publish(b"t\xed\xa0\x80", "x"), "nothing at all": by_hand(b""), "half a length": by_hand(b"\0"),
        "cut short": by_hand(b"\0\5topi"), "a length that lies": by_hand(b"\xff\xfftopic"),
        "QoS 1, no identifier": by_hand(string("topic"), 2), "QoS 2, half an identifier": by_hand(string("topic") + b"\1", 4)})


@statement("3.3.2-2", {
    **HANGS,
    "+ is taken": repaired(PUBLISH, topic(lambda t: t.replace(b"+", b"_")), when=lambda p: b"+" in p.body),
    "# is taken": repaired(PUBLISH, topic(lambda t: t.replace(b"#", b"_")), when=lambda p: b"#" in p.body),
})
def test_3_3_2_2_wildcards_in_a_topic_name(bench):
    names = ("+", "#", "a/+", "a/#", "+/a", "a/+/b", "a+", "a#", "+a", "#a", "a+b/c", "a#b/c")
    bench.every_closes({f"{name}, QoS {level}": publish(bench.topic(name), "x", level, mid=1)
                        for name in names for level in (0, 1, 2)})


@statement("3.3.2-3", {
    "another topic": change(PUBLISH, topic(lambda t: t.replace(b"one", b"two")), times=1),
    "the filter instead of the topic": change(PUBLISH, topic(lambda t: t.replace(b"one", b"+"))),
    "what does not match comes too": add_after(PUBLISH, message("b/one", "x"), times=1),
})
def test_3_3_2_3_topic_matches_the_filter(bench):
    client = bench.subscriber("sub", "a/+/c", "deep/#")
    for name in ("a/one/c", "b/one", "a/one/d", "a/one", "deep/one/two", "a/one/c/d", "deep"):
        bench.publish(name, name)
    for name in ("a/one/c", "deep/one/two", "deep"):
        client.expect_message(bench.topic(name), name)
    client.expect_nothing()


# ---- answers

@statement("3.3.4-1", {
    "PUBACK is dropped": drop(PUBACK),
    "PUBREC is dropped": drop(PUBREC),
    "QoS 2 gets PUBACK": change(PUBREC, lambda p: answer(PUBACK, p.mid)),
    "QoS 1 gets PUBREC": change(PUBACK, lambda p: answer(PUBREC, p.mid)),
    "PUBACK has another identifier": change(PUBACK, other_mid()),
    "PUBACK comes twice": repeat(PUBACK),
    "QoS 0 is answered": add_before(PINGRESP, answer(PUBACK, 1), times=1),
})
def test_3_3_4_1_answers(bench):
    client = bench.connect("pub")
    name = bench.topic("t")
    client.send(publish(name, "x"))
    client.expect_nothing()
    client.send(publish(name, "x", 1, mid=10))
    client.expect(PUBACK, 10)
    client.expect_nothing()
    client.send(publish(name, "x", 2, mid=11))
    client.expect(PUBREC, 11)
    client.expect_nothing()
    client.send(ack(PUBREL, 11))
    client.expect(PUBCOMP, 11)
    client.expect_nothing()


@statement("3.3.5-1", {
    "with the QoS of the first": change(PUBLISH, qos(0)),
    "with the QoS of the last": change(PUBLISH, qos(1)),
    "not at all": drop(PUBLISH),
})
def test_3_3_5_1_overlapping_subscriptions(bench):
    """One delivery or several; the highest QoS is that of the message or of the best subscription."""
    name = bench.topic("a/b")
    client = bench.subscriber("sub", ("a/#", 0), ("a/b", 2), ("+/b", 1))
    for sent in (2, 1, 0):
        bench.publish("a/b", f"at {sent}", sent)
        bench.publish("a/b", "end", 0)
        got = []
        while (p := client.receive()).payload != b"end":
            got.append(p)
        assert got and all((p.topic, p.payload) == (name, b"at %d" % sent) for p in got), [str(p) for p in got]
        assert max(p.qos for p in got) == sent, [str(p) for p in got]
        for _ in got[1:]:
            client.receive()  # of the end, too
        if not bench.foreign:
            assert len(got) == 1, "bramble delivers once"


@statement("3.3.5-2", {
    "it is delivered": add_before(PINGRESP, lambda link: made(rawmqtt.publish("$SYS/" + link.bench.topic("t"), "x")), on=0),
    "PUBACK is dropped": drop(PUBACK),
    "PUBREC is dropped": drop(PUBREC),
})
def test_3_3_5_2_publishing_below_sys(bench):
    """Which belongs to the broker."""
    name = "$SYS/" + bench.topic("t")
    watch = bench.connect("watch")
    watch.subscribe((name, 2))
    for level in (0, 1, 2):
        for kept in (False, True):
            client = bench.connect("pub")
            try:
                client.publish(name, "x", level, retain=kept)
                client.ping()
            except Closed:
                pass
            client.close()
    watch.expect_nothing()
    later = bench.connect("later")
    later.subscribe((name, 2))
    later.expect_nothing()


@statement("3.3.5-2", {
    "it is delivered": change(PUBLISH, topic(lambda t: t.replace(b"closed", b"open")), side=UP),
    "PUBACK is dropped": drop(PUBACK),
    "PUBREC is dropped": drop(PUBREC),
})
def test_3_3_5_2_publishing_what_is_not_allowed(bench):
    """bramble acknowledges."""
    bench.configure("allow_anonymous true\nacl_file {dir}/acl\n",
                    files={"acl": "topic read #\ntopic write +/+/open\n"})
    watch = bench.subscriber("watch", "#")
    client = bench.connect("pub")
    for level in (0, 1, 2):
        for kept in (False, True):
            client.publish(bench.topic("closed"), "x", level, kept)
            client.ping()
            watch.expect_nothing()
    bench.subscriber("later", "#").expect_nothing()
    client.publish(bench.topic("open"), "allowed", 1)
    watch.expect_message(bench.topic("open"), "allowed")


@statement("3.6.1-1", {
    **HANGS,
    "any bits will do": repaired(PUBREL, flags(2)),
})
def test_3_6_1_1_reserved_bits_of_pubrel(bench):
    def check(bits):
        client = bench.connect("pub")
        client.send(publish(bench.topic("t"), "x", 2, mid=1))
        client.expect(PUBREC, 1)
        client.send(packet(PUBREL, bits, b"\0\1"))
        client.expect_closed()
    bench.every({f"bits {bits:04b}": bits for bits in range(16) if bits != 2}, check)
