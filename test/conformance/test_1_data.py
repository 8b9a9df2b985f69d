"""Chapter 1: strings."""

import rawmqtt
from bench import statement
from breakers import HANGS, UP, change, filters, repaired, replace, topic
from rawmqtt import Will, connect, publish, string, subscribe, unsubscribe

BOM = b"\xef\xbb\xbf"

ILL_FORMED = {
    "surrogate U+D800": b"\xed\xa0\x80",
    "surrogate U+DFFF": b"\xed\xbf\xbf",
    "a pair of surrogates": b"\xed\xa0\x80\xed\xb0\x80",
    "overlong in two bytes": b"\xc0\xaf",
    "overlong in three bytes": b"\xe0\x80\xaf",
    "overlong in four bytes": b"\xf0\x80\x80\xaf",
    "truncated after one byte": b"\xc3",
    "truncated after two bytes": b"\xe2\x82",
    "a lone continuation": b"\x80",
    "beyond U+10FFFF": b"\xf4\x90\x80\x80",
    "FF": b"\xff",
}

# where a string can stand: the packet that has it; those of CONNECT are first packets
FIRST = {
    "client id": lambda s: connect(s),
    "will topic": lambda s: connect("x", will=Will(s)),
    "user name": lambda s: connect("x", user=s),
    "protocol name": lambda s: rawmqtt.packet(rawmqtt.CONNECT, 0, string(s) + b"\4\2\0\x3c" + string("x")),
}
LATER = {
    "topic, QoS 0": lambda s: publish(s, "x"),
    "topic, QoS 1": lambda s: publish(s, "x", 1, mid=1),
    "topic, QoS 2": lambda s: publish(s, "x", 2, mid=1),
    "filter to subscribe": lambda s: subscribe(1, (s, 0)),
    "second filter to subscribe": lambda s: subscribe(1, ("x", 0), (s, 0)),
    "filter to unsubscribe": lambda s: unsubscribe(1, s),
}


def cases(places, strings):
    return {f"{what}, {place}": make(text) for place, make in places.items() for what, text in strings.items()}


def around(strings):
    return {what: b"a" + text + b"b" if "truncated" not in what else b"a" + text for what, text in strings.items()}


@statement("1.5.3-1", {
    **HANGS,
    "ill-formed strings are taken": repaired(None, replace(b"\xed\xa0\x80", b"abc"), times=1,
                                             when=lambda p: b"\xed\xa0\x80" in p.body),
})
def test_1_5_3_1_ill_formed_utf8(bench):
    bench.every_closes(cases(LATER, around(ILL_FORMED)))
    bench.every_is_no_connect(cases(FIRST, around(ILL_FORMED)))


@statement("1.5.3-2", {
    **HANGS,
    "U+0000 is taken": repaired(None, replace(b"a\0b", b"a_b"), when=lambda p: b"a\0b" in p.body),
})
def test_1_5_3_2_u0000(bench):
    strings = {"in the middle": b"a\0b", "alone": b"\0", "at the end": b"a\0"}
    bench.every_closes(cases(LATER, strings))
    bench.every_is_no_connect(cases(FIRST, strings))


@statement("1.5.3-3", {
    "it is stripped from what is delivered": change(rawmqtt.PUBLISH, topic(lambda t: t.replace(BOM, b""))),
    "it is skipped when filters are compared": change(
        rawmqtt.SUBSCRIBE, filters(lambda all: [(f.replace(b"plain", BOM + b"plain" + BOM), q) for f, q in all]), side=UP,
        when=lambda p: BOM not in p.body),
})
def test_1_5_3_3_byte_order_mark(bench):
    """U+FEFF is a character like any other, at the start and within."""
    name = bench.topic("\ufeffplain\ufeff")
    with_mark = bench.subscriber("marked", "\ufeffplain\ufeff")
    without = bench.subscriber("plain", "plain")
    bench.publish("\ufeffplain\ufeff", "x")
    got = with_mark.expect_message(name, "x")
    assert got.body[2:got._topic_end] == name.encode()
    without.expect_nothing()
    start = bench.connect("start")
    start.subscribe(("\ufeff" + bench.topic("start"), 1))
    start.publish("\ufeff" + bench.topic("start"), "y")
    start.expect_message("\ufeff" + bench.topic("start"), "y")
