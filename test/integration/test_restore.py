"""What a killed daemon's next life makes of what it finds: whose sessions those are, which rights they have, and what
is owed to them and by them."""

import pytest

from rawmqtt import PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK, Will, ack, publish, subscribe

STORE = "persistence true\npersistence_location {dir}\npersistence_lazy_delay 0\n"


def crash(broker, config=None):
    broker.kill()
    if config is not None:
        broker.configure(config)
    broker.start()


def offline(broker, client_id, *filters, port="tcp", **fields):
    client = broker.connect(client_id, port, clean=False, **fields)
    client.subscribe(*filters)
    client.disconnect()


def resume(broker, client_id, port="tcp", **fields):
    client = broker.client(port)
    assert client.connect(client_id, clean=False, **fields), "no session present"
    return client


def settle(broker):
    """A commit, and all that nobody waits for goes with it."""
    broker.connect("settle").publish("settle", "x", 1, retain=True)


def is_new(broker, client_id, port="tcp", **fields):
    client = broker.client(port)
    assert not client.connect(client_id, clean=False, **fields), "its session is there"
    return client


def test_a_qos_2_publish_goes_on_where_it_was(start):
    broker = start(STORE)
    offline(broker, "to", ("t", 2))
    client = broker.connect("from", clean=False)
    client.send(publish("t", "once", 2, mid=7))
    client.expect(PUBREC, 7)
    crash(broker)
    client = resume(broker, "from")
    client.send(publish("t", "once", 2, mid=7, dup=True))  # as if it had heard nothing
    client.expect(PUBREC, 7)
    client.send(ack(PUBREL, 7))
    client.expect(PUBCOMP, 7)
    client.send(publish("t", "twice", 2, mid=7))  # the identifier is free, also after the next crash
    client.expect(PUBREC, 7)
    crash(broker)
    to = resume(broker, "to")
    to.expect_message("t", "once", 2)
    to.expect_message("t", "twice", 2)
    to.expect_nothing()


def test_a_qos_2_delivery_goes_on_where_it_was(start):
    broker = start(STORE)
    offline(broker, "to", ("t", 2))
    broker.connect("from").publish("t", "x", 2)
    to = resume(broker, "to")
    mid = to.expect_message("t", "x", 2, acknowledge=False).mid
    crash(broker)
    broker.connect("from").publish("t", "y", 2)
    to = resume(broker, "to")
    assert to.expect_message("t", "x", 2, dup=True, acknowledge=False).mid == mid
    assert to.expect_message("t", "y", 2, acknowledge=False).mid != mid
    to.send(ack(PUBREC, mid))
    to.expect(PUBREL, mid)
    crash(broker)
    to = resume(broker, "to")
    got = [to.next(), to.next()]
    assert sorted(p.kind for p in got) == [PUBLISH, PUBREL]
    assert [p.mid for p in got if p.kind == PUBREL] == [mid]


def test_retained_messages_that_a_subscribe_owes(start):
    """The SUBACK was told, the retained messages were not all taken: they come with the next life."""
    broker = start(STORE + "max_inflight_messages 1\n")
    writer = broker.connect("writer")
    for i in range(5):
        writer.publish(f"r/{i}", "x", 1, retain=True)
    client = broker.connect("c", clean=False)
    client.send(subscribe(1, ("r/#", 1)))
    client.expect(SUBACK, 1)
    client.expect(PUBLISH)
    crash(broker)
    client = resume(broker, "c")
    got = {client.receive().topic for _ in range(5)}
    assert got == {f"r/{i}" for i in range(5)}


def test_what_a_subscription_has_brought_it_does_not_owe(start):
    broker = start(STORE)
    broker.connect("writer").publish("r", "x", 1, retain=True)
    client = broker.connect("c", clean=False)
    client.subscribe(("r", 1))
    client.expect_message("r", "x", 1, retain=True)
    client.ping()
    client.disconnect()
    settle(broker)
    crash(broker)
    resume(broker, "c").expect_nothing()


def test_an_unsubscribe_is_for_good(start):
    broker = start(STORE)
    client = broker.connect("c", clean=False)
    client.subscribe(("a", 1), ("b", 1))
    client.unsubscribe("a")
    crash(broker)
    writer = broker.connect("writer")
    writer.publish("a", "x", 1)
    writer.publish("b", "x", 1)
    client = resume(broker, "c")
    client.expect_message("b", "x", 1)
    client.expect_nothing()


def test_a_discarded_session_does_not_come_back(start):
    broker = start(STORE)
    offline(broker, "c", ("t", 1))
    broker.connect("c", clean=True)
    crash(broker)
    is_new(broker, "c")


@pytest.mark.parametrize("clean", [True, False])
def test_a_will_is_published_once(start, clean):
    broker = start(STORE)
    offline(broker, "watch", ("w/#", 1))
    dead = broker.connect("dead", clean=clean, will=Will("w/dead", b"gone", 1))
    broker.connect("polite", clean=clean, will=Will("w/polite", b"gone", 1)).disconnect()
    settle(broker)  # a clean session's will goes with the next commit
    crash(broker)
    watch = resume(broker, "watch")
    watch.expect_message("w/dead", "gone", 1)
    watch.expect_nothing()
    settle(broker)
    crash(broker)
    resume(broker, "watch").expect_nothing()
    dead.close()


USERS = STORE + "password_file {dir}/passwd\nacl_file {dir}/acl\n"


def test_rights_of_the_day(start):
    broker = start(USERS, files={"passwd": "ann:a bob:b", "acl": "pattern readwrite #\n"})
    ann, bob = {"user": "ann", "password": "a"}, {"user": "bob", "password": "b"}
    offline(broker, "ann", ("open", 1), ("secret", 1), **ann)
    offline(broker, "bob", ("open", 1), **bob)
    writer = broker.connect("writer", will=Will("open", b"will", 1), **bob)
    writer.publish("open", "1", 1)
    writer.publish("secret", "2", 1)
    broker.kill()
    broker.write("acl", "user ann\ntopic readwrite open\n")
    (broker.dir / "passwd").unlink()
    broker.write("passwd", "ann:a")  # bob is gone, and what he left to be published with him
    broker.start()
    broker.wait_log("session of client bob is discarded: its user is gone")
    broker.wait_log("Denied the will of client writer on 'open'")
    client = resume(broker, "ann", **ann)
    client.expect_message("open", "1", 1)
    client.expect_nothing()
    broker.stop()
    (broker.dir / "passwd").unlink()
    broker.write("passwd", "ann:a bob:b")
    broker.start()
    is_new(broker, "bob", **bob).expect_nothing()


def test_a_listener_with_another_port(start):
    """Where all listeners ask the same files it does not matter which of them is asked."""
    broker = start(STORE + "listener {tcp2} 127.0.0.1\n")
    offline(broker, "away", ("t", 1), port="tcp2")
    writer = broker.connect("writer", "tcp2", will=Will("t", b"will", 1))
    writer.publish("t", "x", 1, retain=True)
    crash(broker, STORE + "check_retain_source true\nlistener {tcp} 127.0.0.1\n")
    client = resume(broker, "away")
    client.expect_message("t", "x", 1)
    client.expect_message("t", "will", 1)
    client.expect_nothing()
    reader = broker.connect("reader")
    reader.subscribe("t")
    reader.expect_message("t", "x", 0, retain=True)


def test_a_listener_that_is_gone(start):
    own = "allow_anonymous true\n"
    general = STORE.replace(own, "") + "per_listener_settings true\ncheck_retain_source false\n"
    one = general + "listener {tcp} 127.0.0.1\n" + own
    broker = start(one + "listener {tcp2} 127.0.0.1\n" + own)
    offline(broker, "first", ("t", 1))
    offline(broker, "second", ("t", 1), port="tcp2")
    writer = broker.connect("writer", "tcp2", will=Will("t", b"will", 1))
    writer.publish("t", "x", 1, retain=True)
    crash(broker, one)
    broker.wait_log("session of client second is discarded: the listener by which it came is gone")
    broker.wait_log("Denied the will of client writer")
    client = resume(broker, "first")
    client.expect_message("t", "x", 1)
    client.expect_nothing()
    is_new(broker, "second")
    reader = broker.connect("reader")
    reader.subscribe("t")
    reader.expect_message("t", "x", 0, retain=True)  # kept all the same
    crash(broker, one.replace("false", "true"))  # nobody can say whether its publisher still may
    reader = broker.connect("reader")
    reader.subscribe("t")
    reader.expect_nothing()


def test_a_listener_with_another_address(start):
    broker = start(STORE + "listener {tcp}\n")
    offline(broker, "away", ("t", 1))
    broker.connect("p").publish("t", "x", 1)
    crash(broker, STORE + "listener {tcp} 127.0.0.1\n")
    resume(broker, "away").expect_message("t", "x", 1)


def test_a_repeated_publish_is_answered_once(start):
    """Whatever the disk does meanwhile, the answers are as many as the messages."""
    broker = start(STORE)
    offline(broker, "away", ("t", 1))
    client = broker.connect("from")
    client.send(publish("t", "x", 1, mid=1), publish("t", "x", 1, mid=1, dup=True), publish("t", "y", 1, mid=2))
    client.expect(PUBACK, 1)
    client.expect(PUBACK, 2)
    away = resume(broker, "away")
    away.expect_message("t", "x", 1)
    away.expect_message("t", "y", 1)
    away.expect_nothing()
