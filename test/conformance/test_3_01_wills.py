"""Chapter 3.1: the wills in CONNECT."""

from bench import raw_connect, statement
from breakers import HANGS, UP, aside, change, connect_fields, connect_flags, drop, payload, qos, repaired, repeat, retain
from rawmqtt import CONNECT, DISCONNECT, PUBLISH, Will, packet, string

# ---- 3.1.2: wills

WILL_LOST = {"the will is not published": drop(PUBLISH)}


@statement("3.1.2-8", WILL_LOST)
def test_3_1_2_8_will_is_published(bench):
    """When the connection ends in any way but DISCONNECT; with the session kept or not."""
    watch = bench.subscriber("watch", "will")

    def wrong(client):
        client.send(packet(15, 0))
        client.expect_closed()

    def check(how):
        how(bench.mortal())
        watch.expect_message(bench.topic("will"), "gone", 1, retain=False)
        how(bench.mortal(clean=False))
        watch.expect_message(bench.topic("will"), "gone", 1, retain=False)
    bench.every({"closed": lambda c: c.lose(), "reset": lambda c: c.reset(), "a protocol error": wrong}, check)


@statement("3.1.2-8", WILL_LOST)
def test_3_1_2_8_will_of_a_taken_over_connection(bench):
    """The older connection is closed without DISCONNECT, so its will is published."""
    watch = bench.subscriber("watch", "will")
    older = bench.mortal()
    bench.connect("mortal")
    older.expect_closed()
    watch.expect_message(bench.topic("will"), "gone", 1)


@statement("3.1.2-8", WILL_LOST)
def test_3_1_2_8_will_of_a_taken_over_kept_session(bench):
    watch = bench.subscriber("watch", "will")
    older = bench.mortal(clean=False)
    bench.connect("mortal", clean=False)
    older.expect_closed()
    watch.expect_message(bench.topic("will"), "gone", 1)


@statement("3.1.2-9", {
    **HANGS,
    "its QoS is lost": change(PUBLISH, qos(0), when=lambda p: p.qos),
    "its QoS is always 2": change(CONNECT, connect_flags(on=16, off=8), side=UP, when=lambda p: p.body[7] & 28 == 12),
    "its retain is lost": change(CONNECT, connect_flags(off=32), side=UP),
    "its payload is lost": change(PUBLISH, payload("")),
    "a will without message is taken": repaired(CONNECT, connect_fields(lambda fields: [*fields, b""]),
                                                when=lambda p: p.body[-4:] == b"will"),
})
def test_3_1_2_9_will_fields(bench):
    name = bench.topic("will")
    watch = bench.subscriber("watch", "will")
    for level_of_will in (0, 1, 2):
        for kept in (False, True):
            text = f"{level_of_will} {kept}"
            bench.connect("mortal", will=Will(name, text, level_of_will, kept)).lose()
            watch.expect_message(name, text, level_of_will, retain=False)
    bench.subscriber("later", "will").expect_message(name, "2 True", 2, retain=True)
    bench.every_is_no_connect({
        "neither topic nor message": raw_connect(string(bench.id("x")), 6),
        "no message": raw_connect(string(bench.id("x")) + string("will"), 6),
        "a topic cut short": raw_connect(string(bench.id("x")) + string("will")[:-1], 6),
        "a message cut short": raw_connect(string(bench.id("x")) + string("will") + string("gone")[:-1], 6)})


@statement("3.1.2-10", {
    "it is published twice": repeat(PUBLISH),
    "it is published on DISCONNECT": aside(DISCONNECT, lambda bench: bench.publish("will", "gone")),
    "it stays for the next connection": aside(CONNECT, lambda bench: bench.publish("will", "gone"), on=2),
})
def test_3_1_2_10_will_is_removed(bench):
    watch = bench.subscriber("watch", "will")
    bench.mortal(clean=False).lose()
    watch.expect_message(bench.topic("will"), "gone")
    watch.expect_nothing()
    bench.connect("mortal", clean=False).lose()
    watch.expect_nothing()
    bench.mortal(clean=False).disconnect()
    bench.connect("mortal", clean=False).lose()
    watch.expect_nothing()


@statement("3.1.2-11", {
    **HANGS,
    "will fields without the flag are taken": repaired(CONNECT, connect_fields(lambda fields: fields[:1]),
                                                       when=lambda p: b"will" in p.body),
    "will QoS without the flag is taken": repaired(CONNECT, connect_flags(off=24)),
})
def test_3_1_2_11_no_will_flag_no_will_fields(bench):
    name = string(bench.id("x"))
    bench.every_is_no_connect({
        "QoS 1": raw_connect(name, 0x0a), "QoS 2": raw_connect(name, 0x12), "QoS 3": raw_connect(name, 0x1a),
        "retain": raw_connect(name, 0x22), "QoS 1 and retain": raw_connect(name, 0x2a),
        "topic and message": raw_connect(name + string("will") + string("gone"), 2)})


@statement("3.1.2-12", {
    "there is one all the same": change(
        CONNECT, lambda p: connect_flags(on=4)(connect_fields(lambda f: [*f, f[0], b"gone"])(p)), side=UP, on=1),
})
def test_3_1_2_12_no_will_flag_no_will(bench):
    watch = bench.connect("watch")
    watch.subscribe((bench.id("immortal"), 0), (bench.topic("#"), 0))
    bench.connect("immortal").lose()
    bench.connect("immortal", clean=False).lose()
    watch.expect_nothing()


@statement("3.1.2-13", {**HANGS, "it is ignored": repaired(CONNECT, connect_flags(off=24))})
def test_3_1_2_13_will_qos_without_will(bench):
    name = string(bench.id("x"))
    bench.every_is_no_connect({"QoS 1": raw_connect(name, 0x0a), "QoS 2": raw_connect(name, 0x12), "QoS 3": raw_connect(name, 0x1a)})


@statement("3.1.2-14", {**HANGS, "it is taken for QoS 2": repaired(CONNECT, connect_flags(off=8))})
def test_3_1_2_14_will_qos_3(bench):
    fields = string(bench.id("x")) + string(bench.topic("will")) + string("gone")
    bench.every_is_no_connect({"not retained": raw_connect(fields, 0x1e), "retained": raw_connect(fields, 0x3e)})


@statement("3.1.2-15", {**HANGS, "it is ignored": repaired(CONNECT, connect_flags(off=32))})
def test_3_1_2_15_will_retain_without_will(bench):
    bench.every_is_no_connect({"clean": raw_connect(string(bench.id("x")), 0x22), "kept": raw_connect(string(bench.id("x")), 0x20)})


@statement("3.1.2-16", {
    "it is retained": change(CONNECT, connect_flags(on=32), side=UP, on=1),
    "it is sent with RETAIN 1": change(PUBLISH, retain()),
})
def test_3_1_2_16_will_that_is_not_retained(bench):
    watch = bench.subscriber("watch", "will")
    bench.connect("mortal", will=Will(bench.topic("will"), "gone", 1, False)).lose()
    watch.expect_message(bench.topic("will"), "gone", 1, retain=False)
    bench.subscriber("later", "will").expect_nothing()


@statement("3.1.2-17", {
    "it is not retained": change(CONNECT, connect_flags(off=32), side=UP, on=0),
    "it is found without RETAIN": change(PUBLISH, retain(False)),
})
def test_3_1_2_17_will_that_is_retained(bench):
    bench.connect("mortal", will=Will(bench.topic("will"), "gone", 1, True)).lose()
    bench.subscriber("later", "will").expect_message(bench.topic("will"), "gone", 1, retain=True)


