"""A disk that stalls: syncs of the store hang, for five seconds in one test and as long as it takes in others, and writes
of the log, which is on the same disk, too. Acknowledgements of what must be stored wait; nobody else feels it.

That is judged by the order of events: what others do comes to an end while the sync hangs, and what has to wait comes when
it does not any more."""

import signal
import time

from rawmqtt import PUBACK, PUBCOMP, PUBREC, PUBREL, ack, publish

from disk import OTHERS, SYNC, WRITE

LOG = "log_dest file {dir}/log\nlog_type all\nconnection_messages true\n"
CONFIG = LOG + "persistence_commit_delay 250\n"
ALL = SYNC | WRITE | OTHERS
KEPT = {"clean": False, "keepalive": 0}


def away(broker, name="away", pattern="t/#", qos=2):
    client = broker.connect(name, **KEPT)
    client.subscribe((pattern, qos))
    client.disconnect()


class Others:
    """A pair that talks at QoS 0 and 1: one that must not feel anything. The QoS 1 messages go to a kept session."""

    def __init__(self, broker):
        self.sub = broker.connect("echo", **KEPT)
        self.sub.subscribe(("e/#", 1))
        self.pub = broker.connect("talk")
        self.count = 0

    def go_on(self, rounds=10):
        for _ in range(rounds):
            self.count += 1
            text = f"{self.count}"
            self.pub.send(publish("e/0", text))
            self.sub.expect_message("e/0", text, 0)
            self.pub.send(publish("e/1", text, 1, mid=self.count))
            self.sub.expect_message("e/1", text, 1)
            self.pub.expect(PUBACK, self.count)
            self.pub.ping()
            self.sub.ping()


def test_five_seconds(durable):
    """The whole of it: for five seconds a client sends its PUBLISH again each second, another one of QoS 2 too; others go
    on; then all that waited is answered once, and was routed once."""
    broker = durable(CONFIG)
    away(broker)
    seen = broker.connect("seen")  # is told at once of what the others send
    seen.subscribe(("t/#", 2))
    others = Others(broker)
    impatient, exact = broker.connect("impatient", **KEPT), broker.connect("exact", **KEPT)
    with broker.disk.stalled(ALL):
        end = time.monotonic() + 5
        impatient.send(publish("t/1", "once", 1, mid=11))
        exact.send(publish("t/2", "once", 2, mid=12))
        got = {seen.receive().topic for _ in range(2)}
        assert got == {"t/1", "t/2"}
        broker.disk.wait_stalled()
        again = time.monotonic() + 1
        while time.monotonic() < end:
            others.go_on(1)
            if time.monotonic() > again:
                again += 1
                impatient.send(publish("t/1", "once", 1, mid=11, dup=True))
                exact.send(publish("t/2", "once", 2, mid=12, dup=True))
            impatient.ping()
            exact.ping()
        seen.ping()
    impatient.expect(PUBACK, 11)
    impatient.ping()
    exact.expect(PUBREC, 12)
    exact.send(ack(PUBREL, 12))
    exact.expect(PUBCOMP, 12)
    exact.ping()
    seen.ping()
    others.go_on()
    owner = broker.connect("away", clean=False)
    assert {owner.receive().topic for _ in range(2)} == {"t/1", "t/2"}
    owner.ping()


def test_repeats_are_one_message(durable):
    """The same id, topic and payload, again and again while its PUBACK is held: routed once, acknowledged once. With
    another payload or topic it is another message."""
    broker = durable(CONFIG)
    away(broker)
    seen = broker.connect("seen")
    seen.subscribe(("t/#", 0))
    client = broker.connect("p")
    with broker.disk.stalled():
        for round_ in range(50):
            client.send(publish("t/a", "x", 1, mid=3, dup=round_ > 0))
            client.ping()
        seen.expect_message("t/a", "x", 0)
        seen.ping()
    client.expect(PUBACK, 3)
    client.ping()
    client.publish("t/a", "x", 1)  # when it has been answered, the same is a new one
    seen.expect_message("t/a", "x", 0)
    owner = broker.connect("away", clean=False)
    assert owner.topics(2) == ["t/a"] * 2
    owner.ping()


def test_another_message_under_a_held_id_is_not_lost(durable):
    broker = durable(CONFIG)
    away(broker)
    client = broker.connect("p")
    with broker.disk.stalled():
        client.send(publish("t/a", "x", 1, mid=3), publish("t/a", "y", 1, mid=3), publish("t/b", "y", 1, mid=3))
        client.ping()
    for _ in range(3):
        client.expect(PUBACK, 3)
    owner = broker.connect("away", clean=False)
    assert sorted((got.topic, got.payload) for got in (owner.receive() for _ in range(3))) == [
        ("t/a", b"x"), ("t/a", b"y"), ("t/b", b"y")]


def test_a_long_stall_collects_one_group(durable):
    """What comes while a sync hangs is one transaction when it does not any more: not a sync for each."""
    broker = durable(CONFIG)
    away(broker)
    clients = [broker.connect(f"p{i}", **KEPT) for i in range(20)]
    with broker.disk.stalled():
        for client in clients:
            client.send(*(publish("t/a", f"{client.last_mid}", 1, mid=mid) for mid in range(1, 11)))
            client.ping()
        broker.disk.wait_stalled()
        syncs = broker.disk.get("syncs")
    for client in clients:
        for mid in range(1, 11):
            client.expect(PUBACK, mid)
    assert broker.disk.get("syncs") - syncs <= 10, "200 messages"


def test_queue_comes_back_while_the_disk_stalls(durable):
    """Messages that are only in the store: the reader has a connection of its own."""
    broker = durable(CONFIG + "queue_memory_limit 2000\nmax_inflight_messages 5\n")
    away(broker)
    client = broker.connect("p")
    for number in range(200):
        client.publish("t/a", f"{number:0100}", 1)
    others = Others(broker)
    with broker.disk.stalled():
        client.send(publish("t/a", "held", 1, mid=1))
        broker.disk.wait_stalled()
        owner = broker.connect("away", clean=False)
        for number in range(200):
            assert owner.receive().payload == f"{number:0100}".encode()
        others.go_on(1)
    assert owner.receive().payload == b"held"
    client.expect(PUBACK, 1)


def test_orderly_stop_behind_a_stall(durable):
    """SIGTERM while a sync hangs: it waits for the disk, answers, and ends with 0 (the fixture looks at that)."""
    broker = durable(CONFIG)
    away(broker)
    client = broker.connect("p")
    broker.disk.stall()
    client.send(publish("t/a", "x", 1, mid=5))
    broker.disk.wait_stalled()
    broker.signal(signal.SIGTERM)
    broker.disk.put("watch", 0)
    broker.disk.go_on()
    client.expect(PUBACK, 5)
    client.expect_closed()
    broker.wait()
    broker.start()
    broker.disk.put("watch", 1)
    owner = broker.connect("away", clean=False)
    owner.expect_message("t/a", "x", 1)


def test_a_kill_in_a_stall_loses_nothing_acknowledged(durable):
    broker = durable(CONFIG)
    away(broker)
    client = broker.connect("p", **KEPT)
    client.publish("t/a", "before", 1)
    with broker.disk.stalled():
        client.send(publish("t/a", "within", 1, mid=5))
        broker.disk.wait_stalled()
        client.ping()
        broker.kill()
    broker.disk.put("waiting", 0)
    broker.disk.put("watch", 0)
    broker.start()
    broker.disk.put("watch", 1)
    client = broker.connect("p", **KEPT)
    client.send(publish("t/a", "within", 1, mid=5, dup=True))
    client.expect(PUBACK, 5)
    owner = broker.connect("away", clean=False)
    assert [owner.receive().payload for _ in range(2)] == [b"before", b"within"]
