"""acl_file: where it counts. (What each rule means is tested in test/unit/auth.)"""

import pytest

from rawmqtt import NOT_AUTHORISED, PUBACK, PUBLISH, PUBREC, SUBACK, Will, publish, subscribe

RULES = """
topic read public/#
user admin
topic readwrite #
user sensor
topic write in/#
topic deny in/secret
pattern read out/%u/%c
pattern readwrite own/%c/#
"""


@pytest.fixture
def broker(start):
    return start("acl_file {dir}/acl\nallow_anonymous true\npassword_file {dir}/passwd\n",
                 files={"acl": RULES, "passwd": "admin:a sensor:s other:o"})


def admin(broker, client_id="admin"):
    return broker.connect(client_id, user="admin", password="a")


def sensor(broker, client_id="s1", **fields):
    return broker.connect(client_id, user="sensor", password="s", **fields)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_publish(broker, qos):
    """What is denied is acknowledged, as MQTT 3.1.1 wants it, and goes nowhere; the connection stays."""
    watcher = admin(broker)
    watcher.subscribe(("#", 2))
    client = sensor(broker)
    client.publish("elsewhere", "denied", qos)
    client.publish("in/secret", "denied", qos)
    client.publish("in/secret", "denied", qos, retain=True)
    client.publish("in/x", "allowed", qos)
    watcher.expect_message("in/x", "allowed", qos)
    watcher.expect_nothing()
    late = admin(broker, "late")
    late.subscribe("#")
    late.expect_nothing()


def test_receive(broker):
    """A subscription may be wider than the rights: each message is looked at."""
    client, publisher = sensor(broker), admin(broker)
    client.subscribe(("#", 1), ("public/x", 0))
    for topic in ("public/x", "out/sensor/s2", "out/other/s1", "in/x"):
        publisher.publish(topic, "not for it", 1)
    publisher.publish("out/sensor/s1", "for it", 1)
    publisher.publish("own/s1/a/b", "for it too", 1)
    client.expect_message("out/sensor/s1", "for it")
    client.expect_message("own/s1/a/b", "for it too")
    client.expect_nothing()


def test_retained(broker):
    publisher = admin(broker)
    for topic in ("public/x", "out/sensor/s1", "out/sensor/s2", "secret"):
        publisher.publish(topic, "kept", 1, retain=True)
    client, anonymous = sensor(broker), broker.connect("anonymous")
    client.subscribe(("#", 1))
    client.expect_message("out/sensor/s1", "kept", retain=True)
    client.expect_nothing()
    anonymous.subscribe(("#", 1))
    anonymous.expect_message("public/x", "kept", retain=True)
    anonymous.expect_nothing()


def test_will(broker):
    watcher = admin(broker)
    watcher.subscribe(("#", 1))
    sensor(broker, "denied", will=Will("in/secret", retain=True)).close()
    broker.wait_log("Denied the will of client denied")
    sensor(broker, "allowed", will=Will("in/will")).close()
    watcher.expect_message("in/will")
    watcher.expect_nothing()


def test_messages_that_wait(broker):
    """Those for a kept session were looked at when they came."""
    client = sensor(broker, clean=False)
    client.subscribe(("#", 1))
    client.disconnect()
    publisher = admin(broker)
    publisher.publish("out/sensor/s2", "no", 1)
    publisher.publish("out/sensor/s1", "yes", 1)
    client = broker.client()
    assert client.connect("s1", clean=False, user="sensor", password="s")
    client.expect_message("out/sensor/s1", "yes")
    client.expect_nothing()


def test_nobody_publishes_to_sys(start):
    broker = start()
    client = broker.connect("c")
    client.subscribe("$SYS/x/#", "$other/#")
    client.publish("$SYS/x/y", "denied", 1)
    client.send(publish("$other/x", "allowed", 1, mid=5))
    kinds = [client.next().kind for _ in range(2)]
    assert sorted(kinds) == [PUBLISH, PUBACK]
    client.expect_nothing()


def test_user_without_rules(broker):
    client = broker.connect("c", user="other", password="o")
    client.subscribe(("#", 2))
    client.publish("own/c/x", "a pattern for all")
    client.expect_message("own/c/x")
    client.publish("public/x", "not for it", 1)
    client.expect_nothing()


@pytest.mark.parametrize("client_id", ["+", "#", "a/#", "+/b"])
def test_wildcards_in_names_give_no_rights(broker, client_id):
    publisher = admin(broker)
    client = sensor(broker, client_id)
    client.subscribe(("own/#", 0))
    publisher.publish("own/victim/x", "secret", 1)
    client.publish("own/victim/x", "forged", 1)
    client.expect_nothing()


def test_check_retain_source(start):
    """The retained message of a client that has lost its right is held back."""
    broker = start("acl_file {dir}/acl\n", files={"acl": "topic readwrite a\ntopic readwrite b\n"})
    client = broker.connect("c")
    for topic in "ab":
        client.publish(topic, "kept", 1, retain=True)
    broker.write("acl", "topic read a\ntopic readwrite b\n")
    broker.reload()
    later = broker.connect("later")
    later.subscribe("#")
    later.expect_message("b", "kept", retain=True)
    later.expect_nothing()
    broker.configure("acl_file {dir}/acl\ncheck_retain_source false\nlistener {tcp} 127.0.0.1\nallow_anonymous true\n")
    broker.reload()
    later.subscribe("#")
    assert sorted(later.topics(2)) == ["a", "b"]


def test_denied_qos2_is_not_routed_after_the_rights_came(start):
    """PUBLISH denied, then allowed: the repetition of the same exchange stays what it was."""
    broker = start("acl_file {dir}/acl\n", files={"acl": "topic read #\n"})
    watcher = broker.connect("watcher")
    watcher.subscribe("#")
    client = broker.connect("c")
    client.send(publish("t", "x", 2, mid=1))
    client.expect(PUBREC, 1)
    broker.write("acl", "topic readwrite #\n")
    broker.reload()
    client.send(publish("t", "x", 2, mid=1, dup=True))
    client.expect(PUBREC, 1)
    watcher.expect_nothing()


def test_anonymous_and_password_together(broker):
    broker.connect("c").ping()
    broker.client().connect("c", user="admin", password="wrong", expect=NOT_AUTHORISED)


def test_subscribe_rules(start):
    """`topic subscribe`: what does not lie within one of them is answered by 0x80, the rest of the packet is not touched."""
    broker = start("acl_file {dir}/acl\nallow_anonymous true\n",
                   files={"acl": "topic readwrite #\ntopic subscribe a/#\npattern subscribe own/%c/#\n"})
    client, other = broker.connect("c"), broker.connect("o")
    client.send(subscribe(7, ("#", 0), ("a/+/x", 1), ("own/c/#", 2), ("own/o/#", 2), ("own/+/#", 0), ("+/x", 0)))
    assert client.expect(SUBACK).body[2:] == bytes([0x80, 1, 2, 0x80, 0x80, 0x80])
    broker.wait_log(r"Denied SUBSCRIBE from c to 4 filters of one packet\. The first is '#'")
    for topic in ("b", "a/1/x", "own/o/x", "own/c/x"):
        other.publish(topic, "x", 1)
    client.expect_message("a/1/x", "x", qos=1)
    client.expect_message("own/c/x", "x", qos=1)
    client.expect_nothing()
