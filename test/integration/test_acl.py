"""acl_file: where it counts. (What each rule means is tested in test/unit/auth.)"""

import pytest

import streams
from bramble import LISTENER
from rawmqtt import ACCEPTED, NOT_AUTHORISED, PUBACK, PUBLISH, PUBREC, SUBACK, Client, Will, publish, subscribe

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


# ---- limits

LIMITED = "acl_file {dir}/acl\nallow_anonymous true\n"
WATCHER = "user watcher\nretain yes\nqos 2\ntls optional\naddress any\nclientid *\ntopic readwrite #\n"


def limited(start, limits, config=LIMITED, **options):
    """The limits are everybody's; the watcher's own section takes them away again."""
    return start(config, files={"acl": limits + "pattern readwrite t/#\n" + WATCHER}, **options)


def watch(broker):
    watcher = broker.connect("watcher", user="watcher")
    watcher.subscribe(("t/#", 2))
    return watcher


def test_limit_of_qos(start):
    broker = limited(start, "qos 1\n")
    watcher, client, reader = watch(broker), broker.connect("c"), broker.connect("r")
    client.publish("t/2", "denied", 2)
    client.publish("t/1", "allowed", 1)
    watcher.expect_message("t/1", "allowed", qos=1)
    reader.send(subscribe(7, ("t/x", 0), ("t/y", 1), ("t/#", 2)))
    assert reader.expect(SUBACK).body[2:] == bytes([0, 1, 1])
    broker.connect("admin", user="watcher").publish("t/z", "x", 2)
    reader.expect_message("t/z", "x", qos=1)
    watcher.expect_message("t/z", "x", qos=2)
    broker.connect("w", will=Will("t/w", qos=2)).close()
    broker.wait_log("Denied the will of client w")
    watcher.expect_nothing()


def test_limit_of_qos_at_a_reload(start):
    broker = limited(start, "qos 2\n")
    admin, client = broker.connect("admin", user="watcher"), broker.connect("c")
    reader, kept = broker.connect("r"), broker.connect("k", clean=False)
    reader.subscribe(("t/#", 2))
    kept.subscribe(("t/#", 2))
    kept.disconnect()
    client.publish("t/x", "x", 2)
    reader.expect_message("t/x", "x", qos=2)
    broker.write("acl", "qos 0\npattern readwrite t/#\n" + WATCHER)
    broker.reload()
    client.publish("t/x", "denied", 1)
    admin.publish("t/x", "z", 2)
    client.publish("t/x", "y", 0)
    reader.expect_message("t/x", "z", qos=0)
    reader.expect_message("t/x", "y", qos=0)
    kept = broker.client()
    assert kept.connect("k", clean=False)
    kept.expect_message("t/x", "x", qos=2)  # it waited before the reload
    admin.publish("t/x", "now", 1)
    kept.expect_message("t/x", "now", qos=0)


def test_limit_of_retain(start):
    broker = limited(start, "retain no\n")
    watcher, client = watch(broker), broker.connect("c")
    watcher.publish("t/kept", "by the watcher", 1, retain=True)
    watcher.expect_message("t/kept")
    client.publish("t/kept", "", 1, retain=True)  # would delete it
    client.publish("t/kept", "other", 1, retain=True)
    client.publish("t/x", "passes", 1)
    watcher.expect_message("t/x", "passes")
    broker.connect("w", will=Will("t/w", retain=True)).close()
    broker.wait_log("Denied the will of client w")
    watcher.expect_nothing()
    late = broker.connect("late", user="watcher")
    late.subscribe("#")
    late.expect_message("t/kept", "by the watcher", retain=True)
    late.expect_nothing()


def test_limit_of_retain_at_a_reload(start):
    """What it has retained is held back with its right to do so."""
    broker = limited(start, "")
    client = broker.connect("c")
    client.publish("t/x", "kept", 1, retain=True)
    client.subscribe("t/#")
    client.expect_message("t/x", retain=True)
    broker.write("acl", "retain no\npattern readwrite t/#\n" + WATCHER)
    broker.reload()
    client.subscribe("t/x")
    client.publish("t/x", "denied", 1, retain=True)
    client.expect_nothing()


def test_limit_of_client_ids(start):
    broker = start(LIMITED, files={"acl": "clientid %u-?\nclientid guest*\nuser admin\nclientid *\n"})
    for client_id, user in (("mary-1", "mary"), ("guest", None), ("guest/7", "tom"), ("any", "admin")):
        broker.connect(client_id, user=user).ping()
    for client_id, user in (("mary-12", "mary"), ("tom-1", "mary"), ("mary-1", None), ("x*", "x"), ("a-1", "*"), ("*", "*"),
                            ("x", "%u"), ("%u", "x"), ("-1", "")):
        broker.client().connect(client_id, user=user, expect=NOT_AUTHORISED)
    broker.wait_log("refused: the ACL does not admit it with its client id", count=9)
    broker.connect("*-1", user="*").ping()
    broker.connect("%u-1", user="%u").ping()


def test_limit_of_addresses(start):
    """Each user by its way: IPv4, IPv6, the Unix socket."""
    rules = "user four\naddress 127.0.0.0/8\nuser six\naddress ::1\nuser local\naddress unix\nuser any\naddress any\n"
    broker = start(LISTENER["tcp"] + "listener {tcp2} ::1\nlistener 0 {dir}/sock\n" + LIMITED, files={"acl": rules})
    ways = {"four": broker.client, "six": lambda: broker.client("tcp2", host="::1"),
            "local": lambda: Client(streams.unix(broker.dir / "sock"))}
    for way, new_client in ways.items():
        for user in (*ways, "any"):
            client = new_client()
            client.connect("c", user=user, expect=ACCEPTED if user in (way, "any") else NOT_AUTHORISED)
            client.close()


def test_limit_of_tls(start, pki):
    broker = start(LISTENER["tcp"] + LISTENER["tls"] + LIMITED, files={"acl": "tls required\nuser free\ntls optional\n"})
    broker.client().connect("c", expect=NOT_AUTHORISED)
    broker.client().connect("c", user="x", expect=NOT_AUTHORISED)
    broker.connect("c", "tls").ping()
    broker.connect("d", user="free").ping()
    broker.wait_log("refused: the ACL admits it with TLS only", count=2)


@pytest.mark.parametrize("limit", ["clientid other", "address 192.0.2.0/24", "tls required"])
def test_who_is_no_longer_admitted(start, limit):
    """A reload ends the connections of those who break it, and of nobody else; its will is still one."""
    broker = limited(start, "")
    watcher, client = watch(broker), broker.connect("c", clean=False, will=Will("t/w", "gone"))
    broker.write("acl", f"{limit}\npattern readwrite t/#\n" + WATCHER)
    broker.reload()
    client.expect_closed()
    broker.wait_log("Client c .*the ACL (does not admit|admits) it")
    broker.client().connect("c", clean=False, expect=NOT_AUTHORISED)
    watcher.expect_message("t/w", "gone")
    watcher.ping()
    broker.write("acl", "pattern readwrite t/#\n" + WATCHER)
    broker.reload()
    broker.connect("c", clean=False).ping()


def test_a_bad_limit_changes_nothing(start):
    broker = limited(start, "qos 0\n")
    watcher, client = watch(broker), broker.connect("c")
    broker.write("acl", "address 10.1.2.3/8\npattern readwrite t/#\n" + WATCHER)
    broker.reload()
    broker.wait_log(r"acl:1: 10\.1\.2\.3/8 has bits behind the first 8: the network is 10\.0\.0\.0/8")
    client.publish("t/x", "denied", 1)
    client.publish("t/x", "allowed", 0)
    watcher.expect_message("t/x", "allowed")


def test_refuse_unreadable(start):
    """acl_refuse_unreadable: as the standard allows; without it such a SUBSCRIBE is granted, as by mosquitto."""
    rules = {"acl": "topic read a/#\ntopic deny a/x\ntopic write w/#\n"}
    broker = start("acl_file {dir}/acl\nallow_anonymous true\n" + LISTENER["tcp"], files=rules)
    client = broker.connect("c")
    asked = subscribe(7, ("a/+", 0), ("w/#", 1), ("a/x", 2), ("#", 0), ("b", 0))
    client.send(asked)
    assert client.expect(SUBACK).body[2:] == bytes([0, 1, 2, 0, 0])
    broker.configure("acl_refuse_unreadable true\nacl_file {dir}/acl\nallow_anonymous true\n" + LISTENER["tcp"])
    broker.reload()
    for filter_ in ("w/#", "a/x", "b"):
        broker.wait_log(f"The subscription of c to '{filter_}' has ended")
    client.send(asked)
    assert client.expect(SUBACK).body[2:] == bytes([0, 0x80, 0x80, 0, 0x80])
    broker.write("acl", "topic read b\n")
    broker.reload()
    broker.wait_log(r"The subscription of c to 'a/\+' has ended")
    assert "'#' has ended" not in broker.log
    client.send(asked)
    assert client.expect(SUBACK).body[2:] == bytes([0x80, 0x80, 0x80, 0, 0])
