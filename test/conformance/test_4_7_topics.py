"""Chapter 4.7: topics and filters."""

from bench import statement
from breakers import HANGS, add_before, change, drop, filters, made, repaired, replace, topic
from rawmqtt import PUBLISH, SUBSCRIBE, UNSUBSCRIBE, Will, connect, publish, raw, subscribe, unsubscribe


def lenient(old, new):
    """A filter that holds these bytes is taken for another."""
    return repaired(SUBSCRIBE, filters(lambda all: [(f.replace(old, new), q) for f, q in all]),
                    when=lambda p: old in p.body)


def every_filter_closes(bench, wrong):
    """Asked for alone, as the second of two, and to unsubscribe."""
    bench.every_closes({f"{f} {how}": data for f in wrong for how, data in {
        "alone": subscribe(1, (f, 0)), "as the second": subscribe(1, (bench.topic("t"), 0), (f, 0)),
        "to unsubscribe": unsubscribe(1, f)}.items()})


@statement("4.7.1-1", {
    **HANGS,
    "a PUBLISH with + is taken": repaired(PUBLISH, topic(lambda t: t.replace(b"+", b"_")), when=lambda p: b"+" in p.body),
    "a will with # is taken": repaired(None, replace(b"will/#", b"will/_"), when=lambda p: b"will/#" in p.body),
    "filters must have none either": lenient(b"+", b"_"),
})
def test_4_7_1_1_wildcards_in_filters_only(bench):
    client = bench.subscriber("sub", "+/x", "y/#")
    bench.publish("a/x", "1")
    client.expect_message(bench.topic("a/x"), "1")
    bench.every_closes({f"{name}": publish(bench.topic(name), "x") for name in ("+/x", "y/#", "+", "#", "y/+/z", "y+", "y#z")})
    bench.every_is_no_connect({name: connect(bench.id("x"), will=Will(bench.topic(name)))
                               for name in ("will/#", "will/+", "will+", "will#")})
    client.expect_nothing()


@statement("4.7.1-2", {
    **HANGS,
    "# may be anywhere": lenient(b"#/", b"+/"),
    "# may follow other characters": lenient(b"a#", b"a/#"),
    "# does not match its parent": drop(PUBLISH, when=lambda p: p.topic.endswith("a")),
    "# alone is refused": repaired(SUBSCRIBE, filters(lambda all: [(b"##", 1)]), when=lambda p: p.body[2:] == b"\0\1#\1"),
})
def test_4_7_1_2_multi_level_wildcard(bench):
    """A # in a client's own words of a topic would match the rest of the daemon too, hence the marked payload."""
    everything = bench.connect("everything")
    assert everything.subscribe(("#", 1)) == [1]
    client = bench.subscriber("sub", ("a/#", 1))
    for name in ("a", "a/b", "a/b/c", "a/", "ab", "b/a"):
        bench.publish(name, bench.prefix + name)
    for name in ("a", "a/b", "a/b/c", "a/"):
        client.expect_message(bench.topic(name))
    client.expect_nothing()
    ours = []
    while len(ours) < 6:
        got = everything.receive()
        if got.payload.startswith(bench.prefix.encode()):
            ours.append(got.topic)
    assert ours == [bench.topic(name) for name in ("a", "a/b", "a/b/c", "a/", "ab", "b/a")]
    every_filter_closes(bench, ["a#", "#a", "a/#/b", "#/a", "##", "a/b#", "a/#b", "/#/", "+#", "#+", "a/##"])


@statement("4.7.1-3", {
    **HANGS,
    "+ may be part of a level": lenient(b"a+", b"a/"),
    "+ may begin a level": lenient(b"+a", b"/a"),
    "+ matches no empty level": drop(PUBLISH, when=lambda p: p.topic.endswith("//c")),
    "+ matches several levels": repaired(SUBSCRIBE, filters(lambda all: [(f[:-1] + b"#", q) for f, q in all]),
                                         when=lambda p: p.body[:-1].endswith(b"/a/+")),
})
def test_4_7_1_3_single_level_wildcard(bench):
    clients = {pattern: bench.subscriber(f"sub{i}", (pattern, 1))
               for i, pattern in enumerate(("a/+", "a/+/c", "+/+/c", "a/b/+"))}
    for name in ("a/b", "a/b/c", "a//c", "a/", "a", "b/b/c", "a/b/"):
        bench.publish(name, "x")
    wanted = {"a/+": ["a/b", "a/"], "a/+/c": ["a/b/c", "a//c"], "+/+/c": ["a/b/c", "a//c", "b/b/c"],
              "a/b/+": ["a/b/c", "a/b/"]}
    for pattern, names in wanted.items():
        assert clients[pattern].topics(len(names)) == [bench.topic(name) for name in names], pattern
        clients[pattern].expect_nothing()
    every_filter_closes(bench, ["a+", "+a", "a/b+", "a/+b", "a/+b/c", "++", "+/++", "a+/b", "+a/b"])


def dollar(p):
    return p.topic.startswith("$")


@statement("4.7.2-1", {
    "# matches them": add_before(PUBLISH, made(publish("$SYS/broker/version", "x", 0, True)), when=dollar, on=0),
    "+ matches them": repaired(SUBSCRIBE, filters(lambda all: [(f.replace(b"+/broker", b"$SYS/broker"), q) for f, q in all])),
    "+/# matches them": repaired(SUBSCRIBE, filters(lambda all: [(f.replace(b"+/#", b"$SYS/#"), q) for f, q in all])),
})
def test_4_7_2_1_topics_of_the_broker(bench):
    """$SYS is there from the start and retained. It comes for the filter that begins with it, once; a filter that matched
    it too would have brought it before, for filters are handled as a sequence."""
    for i, wild in enumerate(("#", "+/#", "+/broker/version", "+/broker/#", "+/+/version", "+/+/+")):
        client = bench.connect(f"sub{i}")
        client.subscribe((wild, 0), ("$SYS/broker/version", 0))
        while not (got := client.receive()).topic.startswith("$"):
            pass  # what other tests have left
        assert got.topic == "$SYS/broker/version", f"{wild} matched {got}"
        marker = bench.topic("end")
        client.subscribe((marker, 1))
        bench.publish("end", "x")
        while (got := client.receive()).topic != marker:
            assert not got.topic.startswith("$"), f"{wild} matched {got}"
        client.close()


@statement("4.7.2-1", {
    "# matches them": lenient(b"#", b"$x/#"),
    "+ matches them": lenient(b"+/", b"$x/"),
    "they reach nobody": drop(PUBLISH, when=dollar),
})
def test_4_7_2_1_other_topics_with_a_dollar(bench):
    """Where the broker lets clients publish such topics at all."""
    name = "$x/" + bench.topic("t")
    plain = bench.connect("plain")
    wild = bench.connect("wild")
    assert plain.subscribe((name, 1), ("$x/#", 1)) == [1, 1]
    wild.subscribe(("#", 0))
    wild.subscribe(("+/" + bench.topic("t"), 1), ("+/+/+/t", 1), ("+/#", 1))
    client = bench.direct("sender")
    client.publish(name, bench.prefix, 1)
    marker = bench.topic("end")
    client.publish(marker, "x", 1)
    got = plain.receive()
    assert got.topic == name
    while (got := wild.receive()).topic != marker:
        assert not got.topic.startswith("$"), str(got)


@statement("4.7.3-1", {
    **HANGS,
    "an empty topic is taken": repaired(PUBLISH, topic(lambda t: b"t")),
    "an empty filter is taken": repaired(SUBSCRIBE, filters(lambda all: [(f or b"t", q) for f, q in all])),
    "unsubscribing from nothing is taken": repaired(UNSUBSCRIBE, filters(lambda all: [f or b"t" for f in all])),
})
def test_4_7_3_1_at_least_one_character(bench):
    every_filter_closes(bench, [""])
    bench.every_closes({f"PUBLISH, QoS {level}": publish("", "x", level, mid=1) for level in (0, 1, 2)})
    bench.every_is_no_connect({"will": connect(bench.id("x"), will=Will(""))})
    client = bench.connect("short")
    for name in ("/", " "):  # these have one
        assert client.subscribe((name, 1)) == [1]


@statement("4.7.3-2", {
    **HANGS,
    "a topic with it is taken": repaired(PUBLISH, topic(lambda t: t.replace(b"\0", b"_"))),
    "a filter with it is taken": lenient(b"t\0", b"t_"),
})
def test_4_7_3_2_no_u0000(bench):
    every_filter_closes(bench, ["t\0", "\0", "t\0t", "a/\0/b", "\0/#"])
    bench.every_closes({f"PUBLISH to {name!r}": publish(name, "x", 1, mid=1) for name in ("t\0", "\0", "t\0t", "a/\0/b")})
    bench.every_is_no_connect({"will": connect(bench.id("x"), will=Will("t\0t"))})


@statement("4.7.3-3", {
    "its end is lost": change(PUBLISH, topic(lambda t: t[:-1])),
    "its end is another": change(PUBLISH, topic(lambda t: t[:-1] + b"?")),
    "it reaches nobody": drop(PUBLISH),
})
def test_4_7_3_3_longest_topics(bench):
    """Of 65535 bytes; with 200 levels, of as many characters of three bytes."""
    start = bench.topic("")
    names = {"plain": start + "x" * (65535 - len(start)),
             "levels": (start + "/".join(["y" * 329] * 198)).ljust(65535, "z"),
             "three bytes each": start + "z" * ((65535 - len(start)) % 3) + "€" * ((65535 - len(start)) // 3)}

    def check(name):
        assert len(raw(name)) == 65535 and name.count("/") < 201
        client = bench.connect("sub")
        assert client.subscribe((name, 1)) == [1]
        publisher = bench.direct("sender")
        publisher.publish(name[:-1], "shorter", 1)
        publisher.publish(name, "x", 1)
        client.expect_message(name, "x")
        client.unsubscribe(name)
        publisher.publish(name, "x", 1)
        client.expect_nothing()
    bench.every(names, check)
    wide = bench.subscriber("wide", ("#", 1))
    publisher = bench.direct("sender")
    publisher.publish(names["levels"], "y", 1)
    wide.expect_message(names["levels"], "y")


NAMES = ("finance", "/finance", "finance/", "Finance", "FINANCE", "finance//", "//finance", " finance", "finance ", "./finance",
         "caf\u00e9", "cafe\u0301", "\uff46inance", "%66inance", "stra\u00dfe", "strasse", "STRASSE")


@statement("4.7.3-4", {
    "slashes at the end do not count": repaired(SUBSCRIBE, filters(lambda all: [(f.rstrip(b"/"), q) for f, q in all])),
    "double slashes do not count": repaired(SUBSCRIBE, filters(lambda all: [(f.replace(b"//", b"/"), q) for f, q in all])),
    "the case of letters does not count": repaired(SUBSCRIBE, filters(lambda all: [(f.lower(), q) for f, q in all])),
    "composed and decomposed characters are one": repaired(SUBSCRIBE, filters(lambda all: [
        (f.replace("e\u0301".encode(), "\u00e9".encode()), q) for f, q in all])),
    "blanks are trimmed": change(PUBLISH, topic(lambda t: t.rstrip())),
    "what is delivered is normalised": change(PUBLISH, topic(lambda t: t.replace(b"//", b"/"))),
})
def test_4_7_3_4_no_normalisation(bench):
    """Nor of client-made topics that begin with a slash."""
    clients = {name: bench.subscriber(f"sub{i}", (name, 1)) for i, name in enumerate(NAMES)}
    for name in NAMES:
        bench.publish(name, name)
    for name, client in clients.items():
        client.expect_message(bench.topic(name), name)
        client.expect_nothing()
    first = bench.connect("first")
    name = bench.topic("t")
    first.subscribe(("/" + name, 1))
    bench.publish("t", "without")
    publisher = bench.direct("sender")
    publisher.publish("/" + name, "with", 1)
    first.expect_message("/" + name, "with")
    first.expect_nothing()
