"""$SYS: what the broker says about itself."""

import re


def test_values(start):
    broker = start("sys_interval 1\n")
    client = broker.connect("c")
    client.subscribe("$SYS/#")
    values = {}
    while not values.keys() >= {"$SYS/broker/" + name for name in ("uptime", "version", "clients/connected")}:
        got = client.receive()
        values[got.topic] = got.payload.decode()
    assert re.match(r"\d+ seconds$", values["$SYS/broker/uptime"])
    assert re.match(r"bramble version \S+$", values["$SYS/broker/version"])


def follow(client, name, wanted):
    """Waits until a number has this value."""
    client.subscribe("$SYS/broker/" + name)
    while int(client.receive().payload) != wanted:
        pass
    client.unsubscribe("$SYS/broker/" + name)


def test_counts(start):
    broker = start("sys_interval 1\nacl_file {dir}/acl\n", files={"acl": "topic readwrite a/#\ntopic read $SYS/#\n"})
    watcher = broker.connect("watcher")
    kept = broker.connect("kept", clean=False)
    kept.subscribe("a/1", "a/2")
    kept.disconnect()
    writer = broker.connect("gone")
    for topic in ("a/1", "a/2", "a/3", "forbidden"):
        writer.publish(topic, "12345", 1)
    writer.disconnect()
    follow(watcher, "clients/connected", 1)
    follow(watcher, "clients/total", 2)
    follow(watcher, "clients/disconnected", 1)
    follow(watcher, "subscriptions/count", 3)
    follow(watcher, "publish/messages/received", 4)
    follow(watcher, "publish/messages/denied", 1)


def test_not_matched_by_a_wildcard(start):
    broker = start("sys_interval 1\n")
    client = broker.connect("c")
    client.subscribe("#", "+/broker/uptime")
    other = broker.connect("other")
    other.subscribe("$SYS/broker/uptime")
    other.receive()
    other.receive()  # a round has gone by
    client.expect_nothing()


def test_none(start):
    broker = start("sys_interval 0\n")
    client = broker.connect("c")
    client.subscribe("$SYS/#")
    client.expect_nothing()
