"""Chapters 3.8 to 3.11: SUBSCRIBE and UNSUBSCRIBE with their answers."""

from bench import statement
from breakers import (HANGS, add_before, body, byte, change, drop, filters, flags, message, other_mid, qos, repaired, repeat,
                      replace, swap)
from rawmqtt import (PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK, SUBSCRIBE, UNSUBACK, UNSUBSCRIBE, Packet,
                     ack, packet, publish, string, subscribe, unsubscribe)

BAD = b"\xed\xa0\x80"


# ---- SUBSCRIBE: what is refused

@statement("3.8.1-1", {**HANGS, "any bits will do": repaired(SUBSCRIBE, flags(2))})
def test_3_8_1_1_reserved_bits_of_subscribe(bench):
    data = subscribe(1, (bench.topic("t"), 0))
    bench.every_closes({f"bits {bits:04b}": bytes([SUBSCRIBE << 4 | bits]) + data[1:] for bits in range(16) if bits != 2})


@statement("3.8.3-1", {**HANGS, "any bytes will do": repaired(SUBSCRIBE, replace(BAD, b"bad"))})
def test_3_8_3_1_filter_is_not_utf8(bench):
    bench.every_closes({"alone": subscribe(1, (b"t" + BAD, 0)), "the second": subscribe(1, ("t", 0), (b"t/" + BAD, 0)),
                        "with a wildcard": subscribe(1, (BAD + b"/#", 0))})


@statement("3.8.3-3", {**HANGS, "it is answered": repaired(SUBSCRIBE, body(lambda b: b + string("t") + b"\0"))})
def test_3_8_3_3_subscribe_without_filter(bench):
    bench.every_closes({"an identifier only": packet(SUBSCRIBE, 2, b"\0\1")})


@statement("3.8.3-4", {
    **HANGS,
    "reserved bits are ignored": repaired(SUBSCRIBE, filters(lambda all: [(f, q & 3) for f, q in all])),
    "QoS 3 is taken for 2": repaired(SUBSCRIBE, filters(lambda all: [(f, min(q, 2)) for f, q in all])),
})
def test_3_8_3_4_qos_byte(bench):
    cases = {f"byte {byte:#04x}": subscribe(1, (bench.topic("t"), byte))
             for byte in (3, 4, 5, 6, 7, 8, 0x10, 0x20, 0x40, 0x80, 0x81, 0xff)}
    cases["of the second filter"] = subscribe(1, (bench.topic("t"), 0), (bench.topic("u"), 3))
    bench.every_closes(cases)


# ---- wildcards

MATCHES = {  # filter: topics that match
    "a/b/c": "a/b/c",
    "a/b/#": "a/b a/b/ a/b/c a/b/c/d a/b/d",
    "a/+/c": "a/b/c a//c a/bb/c",
    "a/+": "a/ a/b a/c",
    "+/b": "a/b c/b",
    "a/+/#": "a/ a/b a/b/ a/b/c a/b/c/d a/b/d a//c a/bb/c a/c",
    "+/+": "a/ a/b c/b a/c",
    "a/b/+/d": "a/b/c/d",
    "+/+/c": "a/b/c a//c a/bb/c",
    "a/+/+/d": "a/b/c/d",
    "#": "a a/ a/b a/b/ a/b/c a/b/c/d a/b/d a//c a/bb/c c/b a/c",
    "a/#": "a a/ a/b a/b/ a/b/c a/b/c/d a/b/d a//c a/bb/c a/c",
    "+/#": "a a/ a/b a/b/ a/b/c a/b/c/d a/b/d a//c a/bb/c c/b a/c",
}
TOPICS = MATCHES["#"].split()


@statement("3.8.3-2", {
    "# is refused": change(SUBACK, lambda p: Packet(p.kind, 0, p.body[:2] + b"\x80"), skip=1, times=1),
    "+ matches nothing": repaired(SUBSCRIBE, filters(lambda all: [(f.replace(b"+", b"_"), q) for f, q in all]),
                                  when=lambda p: b"+" in p.body),
    "# does not match the parent": drop(PUBLISH, when=lambda p: p.topic.endswith("a/b")),
    "# matches one level only": repaired(SUBSCRIBE, filters(lambda all: [(f.replace(b"#", b"+"), q) for f, q in all]),
                                         when=lambda p: b"#" in p.body),
    "+ matches several levels": repaired(SUBSCRIBE, filters(lambda all: [(f.replace(b"a/+", b"a/#"), q) for f, q in all]),
                                         when=lambda p: p.body[:-1].endswith(b"a/+")),
})
def test_3_8_3_2_wildcards(bench):
    clients = {pattern: bench.subscriber(f"sub{i}", (pattern, 1)) for i, pattern in enumerate(MATCHES)}
    for name in TOPICS:
        bench.publish(name, name)
    for pattern, client in clients.items():
        wanted = sorted(bench.topic(name) for name in MATCHES[pattern].split())
        got = sorted(client.receive().topic for _ in wanted)
        assert got == wanted, f"{pattern} brought {got}"
        client.expect_nothing()


# ---- SUBACK

@statement("3.8.4-1", {
    "there is none": drop(SUBACK),
    "there is another packet": change(SUBACK, lambda p: Packet(UNSUBACK, 0, p.body[:2])),
    "there is none for a repetition": drop(SUBACK, skip=1),
})
def test_3_8_4_1_suback(bench):
    client = bench.connect("sub")
    for _ in range(3):
        client.send(subscribe(1, (bench.topic("t"), 1)))
        client.expect(SUBACK)


@statement("3.8.4-2", {
    "another one": change(SUBACK, other_mid()),
    "they are changed over": swap(SUBACK),
})
def test_3_8_4_2_identifier_of_suback(bench):
    client = bench.connect("sub")
    ids = (7, 65535, 256, 1)
    client.send(*(subscribe(i, (bench.topic(f"t{i}"), 1)) for i in ids))
    for i in ids:
        client.expect(SUBACK, i)


@statement("3.8.4-3", {
    "both count": repeat(PUBLISH, when=lambda p: p.payload == b"after" and not p.retain),
    "the old QoS stays": change(PUBLISH, qos(2), when=lambda p: p.payload == b"after" and not p.retain),
    "retained messages are not sent again": drop(PUBLISH, when=lambda p: p.retain, skip=1),
})
def test_3_8_4_3_subscribing_again_replaces(bench):
    name = bench.topic("t")
    bench.publish("t", "kept", 2, retain=True)
    client = bench.connect("sub")
    for level in (2, 1, 0):
        assert client.subscribe((name, level)) == [level]
        client.expect_message(name, "kept", level, retain=True)
    bench.publish("t", "after", 2)
    client.expect_message(name, "after", 0, retain=False)
    client.expect_nothing()


@statement("3.8.4-3", {
    "one is lost": drop(PUBLISH, skip=20, times=1),
    "one comes twice": repeat(PUBLISH, skip=20, times=1),
})
def test_3_8_4_3_the_flow_is_not_interrupted(bench):
    """While it subscribes again and again, and what it has not acknowledged is under way."""
    name = bench.topic("t")
    client = bench.subscriber("sub", ("t", 1))
    publisher = bench.connect("pub")
    sent, got = 0, []
    for _ in range(20):
        publisher.send(*(publish(name, str(sent + i), 1, mid=i + 1) for i in range(3)))
        assert client.subscribe((name, 1)) == [1]
        for _ in range(3):
            publisher.expect(PUBACK)
        sent += 3
        while len(got) < sent:
            got.append(int(client.receive().payload))
    assert got == list(range(sent))
    client.expect_nothing()


@statement("3.8.4-4", {
    "a SUBACK for each": change(SUBACK, lambda p: Packet(p.kind, 0, p.body[:3]), when=lambda p: len(p.body) > 3),
    "a second SUBACK": repeat(SUBACK),
    "only the first filter counts": repaired(SUBSCRIBE, filters(lambda all: all[:1] * len(all)), times=1),
    "the last ones come first": repaired(SUBSCRIBE, filters(lambda all: all[::-1]), skip=1) +
                                change(SUBACK, lambda p: Packet(p.kind, 0, p.body[:2] + p.body[:1:-1]), skip=1),
})
def test_3_8_4_4_several_filters(bench):
    client = bench.connect("sub")
    names = [bench.topic(name) for name in "abc"]
    assert client.subscribe(*((name, 1) for name in names)) == [1, 1, 1]
    client.expect_nothing()
    for name in "abc":
        bench.publish(name, name)
        client.expect_message(bench.topic(name), name, 1)
    client.expect_nothing()
    # as if each had come alone: of the same filter the last one stays
    assert client.subscribe((bench.topic("d"), 2), (bench.topic("d"), 0), (bench.topic("d"), 1)) == [2, 0, 1]
    bench.publish("d", "x", 2)
    client.expect_message(bench.topic("d"), "x", 1)
    client.expect_nothing()


@statement("3.8.4-5", {
    "one is missing": change(SUBACK, lambda p: Packet(p.kind, 0, p.body[:-1])),
    "one too many": change(SUBACK, lambda p: Packet(p.kind, 0, p.body + b"\0")),
    "there are none": change(SUBACK, lambda p: Packet(p.kind, 0, p.body[:2])),
    "the granted QoS is not what is delivered": change(PUBLISH, qos(0)),
})
def test_3_8_4_5_codes(bench):
    """Each is the QoS that messages then have, or 0x80 and there are none."""
    client = bench.connect("sub")
    for count in (1, 2, 3, 10, 200):
        pairs = [(f"{count}/{i}", i % 3) for i in range(count)]
        client.send(subscribe(1, *((bench.topic(name), level) for name, level in pairs)))
        got = client.expect(SUBACK, 1)
        codes = list(got.body[2:])
        assert len(codes) == count and all(code in (0, 1, 2, 0x80) for code in codes), str(got)
        for (name, _), code in list(zip(pairs, codes))[:6]:
            bench.publish(name, name, 2)
            if code != 0x80:
                client.expect_message(bench.topic(name), name, code)
        client.expect_nothing()


@statement("3.8.4-6", {
    "that of the message": change(PUBLISH, qos(2), when=lambda p: p.payload == b"2"),
    "that of the subscription": change(PUBLISH, qos(2), when=lambda p: p.topic.endswith("2")),
    "always 0": change(PUBLISH, qos(0)),
    "one comes twice": repeat(PUBLISH, when=lambda p: p.qos == 2),
})
def test_3_8_4_6_lower_qos(bench):
    client = bench.subscriber("sub", ("t0", 0), ("t1", 1), ("t2", 2))
    for granted in (0, 1, 2):
        for sent in (0, 1, 2):
            bench.publish(f"t{granted}", str(sent), sent)
            client.expect_message(bench.topic(f"t{granted}"), str(sent), min(sent, granted))
            client.expect_nothing()


@statement("3.9.3-1", {
    "the other way round": change(SUBACK, lambda p: Packet(p.kind, 0, p.body[:2] + p.body[:1:-1])),
    "sorted": change(SUBACK, lambda p: Packet(p.kind, 0, p.body[:2] + bytes(sorted(p.body[2:])))),
})
def test_3_9_3_1_order_of_codes(bench):
    client = bench.connect("sub")
    for levels in ((0, 1, 2), (2, 1, 0), (1, 0, 2, 2, 0, 1, 1)):
        assert client.subscribe(*((bench.topic(f"t{i}"), level) for i, level in enumerate(levels))) == list(levels)


@statement("3.9.3-2", {
    f"{code:#04x}": change(SUBACK, lambda p, code=code: Packet(p.kind, 0, p.body[:-1] + bytes([code]))) for code in (3, 0x81, 0xff)
})
def test_3_9_3_2_no_other_codes(bench):
    """Whatever is asked for, also what a broker may refuse."""
    names = [bench.topic("t"), "#", "+", "$SYS/#", "$SYS", "$", "$none/such", "$share/group/" + bench.topic("t"), "/",
             "//", bench.topic("/".join("x" * 100)), "x" * 1000]
    for name in names:
        for level in (0, 1, 2):
            client = bench.connect("sub")
            client.send(subscribe(1, (name, level)))
            got = client.expect(SUBACK, 1)
            assert len(got.body) == 3 and got.body[2] in (0, 1, 2, 0x80), f"{name}: {got}"
            client.close()


# ---- UNSUBSCRIBE

@statement("3.10.1-1", {**HANGS, "any bits will do": repaired(UNSUBSCRIBE, flags(2))})
def test_3_10_1_1_reserved_bits_of_unsubscribe(bench):
    data = unsubscribe(1, bench.topic("t"))
    bench.every_closes({f"bits {bits:04b}": bytes([UNSUBSCRIBE << 4 | bits]) + data[1:] for bits in range(16) if bits != 2})


@statement("3.10.3-1", {**HANGS, "any bytes will do": repaired(UNSUBSCRIBE, replace(BAD, b"bad"))})
def test_3_10_3_1_filter_is_not_utf8(bench):
    bench.every_closes({"alone": unsubscribe(1, b"t" + BAD), "the second": unsubscribe(1, "t", b"t/" + BAD)})


@statement("3.10.3-2", {**HANGS, "it is answered": repaired(UNSUBSCRIBE, body(lambda b: b + string("t")))})
def test_3_10_3_2_unsubscribe_without_filter(bench):
    bench.every_closes({"an identifier only": packet(UNSUBSCRIBE, 2, b"\0\1")})


def other_filter(change_it):
    return repaired(UNSUBSCRIBE, filters(lambda all: [change_it(f) for f in all]))


@statement("3.10.4-1", {
    "the case of letters does not count": other_filter(lambda f: f.replace(b"A/", b"a/")),
    "a matching topic is enough": other_filter(lambda f: f.replace(b"/a/b", b"/a/+")),
    "a slash at the end does not count": other_filter(lambda f: f.rstrip(b"/")),
    "a wildcard takes all it matches": other_filter(lambda f: f.replace(b"/#", b"/a/+")),
    "nothing is removed": other_filter(lambda f: b"none/" + f),
})
def test_3_10_4_1_filters_are_compared_byte_for_byte(bench):
    client = bench.subscriber("sub", ("a/+", 1))
    for other in ("a/b", "A/+", "a/+/", "/a/+", "a/#", "#", "+/+", "a"):
        client.unsubscribe(bench.topic(other))
    bench.publish("a/b", "still there")
    client.expect_message(bench.topic("a/b"), "still there")
    client.unsubscribe(bench.topic("a/+"))
    bench.publish("a/b", "no more")
    client.expect_nothing()


@statement("3.10.4-2", {
    "they go on": other_filter(lambda f: b"none/" + f),
    "QoS 0 goes on": add_before(PINGRESP, message("t", "after"), skip=1, times=1),
})
def test_3_10_4_2_no_new_messages(bench):
    client = bench.subscriber("sub", "t")
    for level in (0, 1, 2):
        bench.publish("t", "before", level)
        client.expect_message(bench.topic("t"), "before", level)
    client.ping()
    client.unsubscribe(bench.topic("t"))
    for level in (0, 1, 2):
        bench.publish("t", "after", level)
        bench.publish("t", "after", level, retain=True)
    client.expect_nothing()


@statement("3.10.4-3", {
    "QoS 1 is forgotten": drop(PUBLISH, when=lambda p: p.dup and p.qos == 1),
    "QoS 2 is forgotten": drop(PUBLISH, when=lambda p: p.dup and p.qos == 2),
    "PUBREL is forgotten": drop(PUBREL, on=1, times=1),
    "PUBREC is not answered": drop(PUBREL, skip=1, times=1),
})
def test_3_10_4_3_deliveries_under_way_are_completed(bench):
    name = bench.topic("t")
    client = bench.subscriber("sub", "t", clean=False)
    ids = {}
    for text, level in (("one", 1), ("two", 2), ("three", 2), ("four", 2)):
        bench.publish("t", text, level)
        ids[text] = client.expect_message(name, text, level, dup=False, acknowledge=False).mid
    client.send(ack(PUBREC, ids["two"]))
    client.expect(PUBREL, ids["two"])
    client.unsubscribe(name)
    client.send(ack(PUBREC, ids["three"]))
    client.expect(PUBREL, ids["three"])
    client.send(ack(PUBCOMP, ids["three"]))
    client.lose()
    client = bench.connect("sub", clean=False, present=True)
    got = [client.next() for _ in range(3)]
    assert sorted((p.kind, p.mid) for p in got) == sorted([(PUBLISH, ids["one"]), (PUBREL, ids["two"]), (PUBLISH, ids["four"])])
    client.send(ack(PUBACK, ids["one"]), ack(PUBCOMP, ids["two"]), ack(PUBREC, ids["four"]))
    client.expect(PUBREL, ids["four"])
    client.send(ack(PUBCOMP, ids["four"]))
    bench.publish("t", "no more", 1)
    client.expect_nothing()


@statement("3.10.4-4", {
    "another one": change(UNSUBACK, other_mid()),
    "they are changed over": swap(UNSUBACK),
})
def test_3_10_4_4_identifier_of_unsuback(bench):
    client = bench.connect("sub")
    ids = (7, 65535, 256, 1)
    client.send(*(unsubscribe(i, bench.topic("t")) for i in ids))
    for i in ids:
        assert len(client.expect(UNSUBACK, i).body) == 2


@statement("3.10.4-5", {"there is none": drop(UNSUBACK), "there is none the second time": drop(UNSUBACK, skip=2)})
def test_3_10_4_5_unsuback_for_nothing(bench):
    client = bench.connect("sub")
    client.unsubscribe(bench.topic("never"))
    client.subscribe((bench.topic("once"), 1))
    client.unsubscribe(bench.topic("once"))
    client.unsubscribe(bench.topic("once"))
    client.unsubscribe("#", "+", "$SYS/#")


@statement("3.10.4-6", {
    "an UNSUBACK for each": repeat(UNSUBACK),
    "only the first filter counts": repaired(UNSUBSCRIBE, filters(lambda all: all[:1])),
    "only the last filter counts": repaired(UNSUBSCRIBE, filters(lambda all: all[-1:])),
})
def test_3_10_4_6_several_filters(bench):
    client = bench.subscriber("sub", ("a", 1), ("b", 1), ("c", 1), ("d", 1))
    client.unsubscribe(bench.topic("a"), bench.topic("none"), bench.topic("b"), bench.topic("c"))
    client.expect_nothing()
    for name in "abcd":
        bench.publish(name, name)
    client.expect_message(bench.topic("d"), "d")
    client.expect_nothing()
