"""A full disk, one that gives errors, and one that has become read-only, under the real daemon (disk_shim.c).

What must hold for each: nothing is acknowledged that is not stored; who publishes at QoS 1 or 2 is paused before the next
message is routed, without being timed out, and closed after persistence_hold_timeout; QoS 0 goes on; what frees room is
written first; the log and $SYS say why; and all goes on by itself when the disk does."""

import contextlib
import errno
import sqlite3
import time

import pytest

from rawmqtt import PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBREC, PUBREL, SUBACK, TIMEOUT, Closed, ack, packet, publish, subscribe

MB = 1 << 20
PROMPT = "persistence_commit_delay 0\npersistence_min_free 1048576\nsys_interval 1\n"
CONFIG = PROMPT + "persistence_lazy_delay 3600000\n"  # the disk is asked only when somebody waits for it
FREES = PROMPT + "persistence_lazy_delay 0\n"         # or when anything was acknowledged
KEPT = {"clean": False, "keepalive": 0}

TROUBLES = {  # what is done to the disk, and what the log says of it
    "low": (lambda disk: setattr(disk, "room", MB // 2), "persistence_min_free"),
    "full": (lambda disk: setattr(disk, "room", 0), "(?i:full|space|persistence_min_free)"),
    "EIO": (lambda disk: disk.fail(errno.EIO), "(?i:i/o error|input/output)"),
    "read-only": (lambda disk: disk.fail(errno.EROFS), "(?i:read-?only)"),
}
every_trouble = pytest.mark.parametrize("trouble", TROUBLES)


def heal(disk):
    disk.room = None
    disk.fail(0)


@contextlib.contextmanager
def troubled(broker, trouble, client):
    """The disk fails, and the daemon has noticed by a message of this client (id 5 on t/first), which is not answered."""
    make, says = TROUBLES[trouble]
    make(broker.disk)
    since = len(broker.log)
    client.send(publish("t/first", "x", 1, mid=5))
    try:
        broker.wait_log(r"The durable store has failed: .*(" + says + ")", since=since)
        client.ping()  # and nothing else has come
        yield
    finally:
        heal(broker.disk)


def away(broker, name="away", pattern="t/#", qos=2):
    client = broker.connect(name, **KEPT)
    client.subscribe((pattern, qos))
    client.disconnect()


class Echo:
    """A client that talks to itself at QoS 0: it must not feel anything."""

    def __init__(self, broker):
        self.client = broker.connect("echo")
        self.client.subscribe("e/#")
        self.count = 0

    def go_on(self, times=20):
        for _ in range(times):
            self.count += 1
            self.client.send(publish("e/a", f"{self.count}"))
            self.client.expect_message("e/a", f"{self.count}", 0)
            self.client.ping()


@every_trouble
def test_nothing_is_acknowledged_and_all_goes_on(durable, trouble):
    broker = durable(CONFIG)
    away(broker)
    echo = Echo(broker)
    watcher = broker.connect("watcher")
    watcher.subscribe("t/#")
    one, two, new = broker.connect("one"), broker.connect("two", **KEPT), broker.connect("new", **KEPT)
    new.subscribe("x")
    with troubled(broker, trouble, one):
        watcher.expect_message("t/first", "x")  # it was routed before anybody knew
        one.send(publish("t/one", "y", 1, mid=6), packet(PINGREQ, 0))
        two.send(publish("t/two", "z", 2, mid=7), packet(PINGREQ, 0))
        new.send(subscribe(8, ("y", 1)), packet(PINGREQ, 0))
        echo.go_on()
        watcher.ping()  # neither has been routed
        one.stream.patience(0.2)
        with pytest.raises(TimeoutError):
            one.next()  # nor has anything behind it been looked at
        one.stream.patience(TIMEOUT)
        echo.go_on()
    one.expect(PUBACK, 5)
    assert sorted(one.next().kind for _ in range(2)) == [PUBACK, PINGRESP]
    got = [two.next() for _ in range(2)]
    assert sorted(each.kind for each in got) == [PUBREC, PINGRESP]
    two.send(ack(PUBREL, 7))
    two.expect(PUBCOMP, 7)
    assert sorted(new.next().kind for _ in range(2)) == [SUBACK, PINGRESP]
    assert sorted(watcher.topics(2)) == ["t/one", "t/two"]
    watcher.ping()
    broker.wait_log("store works again")
    broker.kill()  # and what was acknowledged is there
    broker.disk.put("watch", 0)
    broker.start()
    owner = broker.connect("away", clean=False)
    assert sorted(owner.topics(3)) == ["t/first", "t/one", "t/two"]
    owner.ping()


@every_trouble
def test_held_longer_than_allowed(durable, trouble):
    """It is closed after persistence_hold_timeout; what it was not acknowledged it sends again."""
    broker = durable(CONFIG + "persistence_hold_timeout 1\n")
    away(broker)
    echo = Echo(broker)
    client = broker.connect("p", **KEPT)
    with troubled(broker, trouble, client):
        client.send(publish("t/second", "y", 1, mid=6))
        client.expect_closed()
        broker.wait_log("longer than persistence_hold_timeout")
        echo.go_on()
    broker.wait_log("store works again")  # without anybody who asks
    client = broker.connect("p", **KEPT)
    client.send(publish("t/first", "x", 1, mid=5, dup=True), publish("t/second", "y", 1, mid=6, dup=True))
    client.expect(PUBACK, 5)
    client.expect(PUBACK, 6)
    owner = broker.connect("away", clean=False)
    topics = owner.topics(2)
    if "t/second" not in topics:  # QoS 1: the first one may be there twice
        topics += owner.topics(1)
    assert set(topics) == {"t/first", "t/second"}
    owner.ping()


def test_held_is_not_timed_out_by_keep_alive(durable):
    """Keep alive is suspended: others that are silent are closed meanwhile, and again; the one that is held is not."""
    broker = durable(CONFIG)
    away(broker)
    client = broker.connect("p", keepalive=1)
    with troubled(broker, "full", client):
        client.send(publish("t/second", "y", 1, mid=6))
        for _ in range(2):
            silent = broker.connect("silent", keepalive=1)
            silent.expect_closed()
    client.expect(PUBACK, 5)
    client.expect(PUBACK, 6)
    client.ping()


def test_keep_alive_of_those_that_are_not_held(durable):
    """A client that has not published behind the failure is alive as long as it pings, and no longer."""
    broker = durable(CONFIG)
    away(broker)
    client = broker.connect("p")
    with troubled(broker, "EIO", client):
        silent = broker.connect("silent", keepalive=1)
        talks = broker.connect("talks", keepalive=1)
        end = time.monotonic() + 2
        while time.monotonic() < end:
            talks.ping()
            time.sleep(0.2)
        silent.expect_closed()
        talks.ping()


def rows(broker, table):
    with contextlib.closing(sqlite3.connect(f"file:{broker.dir}/bramble.db?mode=ro", uri=True)) as db:
        return db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def wait_rows(broker, table, wanted):
    end = time.monotonic() + TIMEOUT
    while rows(broker, table) != wanted:
        assert time.monotonic() < end, f"{rows(broker, table)} rows of {table}, not {wanted}"
        time.sleep(0.02)


def test_what_frees_room_goes_first(durable):
    """While new messages are refused, a client comes and takes its queue: that is written into the room that is kept for
    it, and a kill does not bring the queue back."""
    broker = durable(FREES)
    away(broker, qos=1)
    client = broker.connect("p")
    for number in range(100):  # few: the -wal is given back when room is missing
        client.publish(f"t/{number}", "x" * 500, 1)
    with troubled(broker, "low", client):
        owner = broker.connect("away", clean=False)
        assert len({owner.receive().topic for _ in range(101)}) == 101
        owner.ping()
        wait_rows(broker, "message", 0)
        broker.kill()
        broker.disk.put("watch", 0)
        broker.start()
        broker.disk.put("watch", 1)
        owner = broker.connect("away", clean=False)
        owner.ping()


def test_room_that_the_store_itself_frees_is_used(durable):
    """The store has filled the disk with a queue; its client comes and takes it: then there is room inside the file, and
    publishers go on without any room outside."""
    broker = durable(FREES)
    away(broker, qos=1)
    broker.disk.room = 4 * MB
    client = broker.connect("p")
    sent = acknowledged = 0
    text = "x" * 5000
    client.stream.patience(3)  # no answer for so long: held
    with contextlib.suppress(TimeoutError):
        while True:
            sent += 1
            client.send(publish(f"t/{sent}", text, 1, mid=sent))
            client.expect(PUBACK, sent)
            acknowledged = sent
    assert acknowledged > 100
    broker.wait_log("The durable store has failed")
    client.stream.patience(TIMEOUT)
    owner = broker.connect("away", clean=False)
    for number in range(1, acknowledged + 1):
        assert owner.receive().topic == f"t/{number}"
    client.expect(PUBACK, sent)  # it is taken now
    client.publish("t/more", text, 1)
    assert owner.topics(2) == [f"t/{sent}", "t/more"]
    broker.disk.room = None


def test_large_messages_leave_room_to_be_written_back(durable):
    """A message stands in the -wal and then in the file: one that fits once only is not taken. Else nothing could be
    written back any more, and so nothing be removed, although its client has taken all."""
    broker = durable(FREES + "max_packet_size 4000000\n")
    away(broker, qos=1)
    broker.disk.room = 8 * MB
    client = broker.connect("p")
    client.stream.patience(3)  # no answer for so long: held
    sent = 0
    with contextlib.suppress(TimeoutError):
        while True:
            sent += 1
            client.send(publish(f"t/{sent}", "x" * 2 * MB, 1, mid=sent))
            client.expect(PUBACK, sent)
    broker.wait_log("The durable store has failed")
    client.stream.patience(TIMEOUT)
    owner = broker.connect("away", clean=False)
    for number in range(1, sent + 1):
        assert owner.receive().topic == f"t/{number}"
    client.expect(PUBACK, sent)  # nobody needs it any more
    client.publish("t/more", "x", 1)
    assert owner.topics(1) == ["t/more"]


@every_trouble
def test_sys_says_why(durable, trouble):
    broker = durable(CONFIG)
    away(broker)
    reader = broker.connect("reader")
    reader.subscribe("$SYS/broker/store/trouble", "$SYS/broker/store/blocked")
    client = broker.connect("p")

    told = {}

    def wait(**wanted):
        """Until $SYS says that; of trouble: whether there is any."""
        for _ in range(100):
            got = reader.receive()
            told[got.topic.rpartition("/")[2]] = got.payload.decode()
            if {**told, "trouble": told.get("trouble", "none") != "none"} == wanted:
                return
        raise AssertionError(f"{wanted} did not come: {told}")

    wait(trouble=False, blocked="0")
    with troubled(broker, trouble, client):
        wait(trouble=True, blocked="1")
        assert "bramble.db" in told["trouble"]
    client.expect(PUBACK, 5)
    wait(trouble=False, blocked="0")


@every_trouble
def test_again_and_again(durable, trouble):
    """The disk fails and is well again, three times, under load: every message is acknowledged in the end, and there once."""
    broker = durable(CONFIG)
    away(broker, qos=2)
    client = broker.connect("p", **KEPT)
    make, _ = TROUBLES[trouble]
    mid = 0
    for _ in range(3):
        failures = len(broker.log)
        client.send(*(publish("t/a", f"{mid + i}", 2, mid=mid + i) for i in range(1, 6)))
        make(broker.disk)
        client.send(*(publish("t/a", f"{mid + i}", 2, mid=mid + i) for i in range(6, 11)))
        broker.wait_log("The durable store has failed", since=failures)
        heal(broker.disk)
        left = set(range(mid + 1, mid + 11))
        completed = set()
        while completed != left:
            got = client.next()
            if got.kind == PUBREC:
                client.send(ack(PUBREL, got.mid))
            else:
                assert got.kind == PUBCOMP
                completed.add(got.mid)
        mid += 10
    owner = broker.connect("away", clean=False)
    assert [int(owner.receive().payload) for _ in range(mid)] == list(range(1, mid + 1))
    owner.ping()


@pytest.mark.parametrize("trouble", ["low", "EIO"])
def test_killed_while_the_disk_fails(durable, trouble):
    """What was acknowledged before is there when it starts again on a disk that is well."""
    broker = durable(CONFIG)
    away(broker)
    client = broker.connect("p", **KEPT)
    for number in range(50):
        client.publish(f"t/{number}", "x", 1)
    with troubled(broker, trouble, client):
        broker.kill()
    broker.disk.put("watch", 0)
    broker.start()
    owner = broker.connect("away", clean=False)
    topics = []
    while len(topics) < 50:
        topics.append(owner.receive().topic)
    assert topics == [f"t/{number}" for number in range(50)]


@every_trouble
def test_orderly_stop_while_the_disk_fails(durable, trouble):
    """It ends by itself, and says that it could not store everything; nothing was acknowledged."""
    broker = durable(CONFIG)
    away(broker)
    client = broker.connect("p", **KEPT)
    with troubled(broker, trouble, client):
        broker.disk.put("watch", 0)
        broker.signal(15)
        with contextlib.suppress(Closed, ConnectionError):
            assert client.next().kind != PUBACK
        broker.process.wait(TIMEOUT)
        broker.wait_log("The store has failed: .*")
    broker.start()
