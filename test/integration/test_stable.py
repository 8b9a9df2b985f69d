"""The durable store over the daemon's life: what a restart finds, what an orderly stop does, which files are refused."""

import signal
import sqlite3

import pytest

from bramble import Failed
from rawmqtt import PUBACK, Will, publish

STORE = "persistence true\npersistence_location {dir}\nsys_interval 1\n"


def restart(broker):
    broker.stop()
    broker.start()


def rows(broker, table):
    with sqlite3.connect(broker.dir / "bramble.db") as store:
        return store.execute(f"select count(*) from {table}").fetchone()[0]


def offline(broker, client_id, *filters):
    client = broker.connect(client_id, clean=False)
    client.subscribe(*filters)
    client.disconnect()


def resume(broker, client_id):
    client = broker.client()
    assert client.connect(client_id, clean=False), "no session present"
    return client


@pytest.mark.parametrize("end", ["SIGTERM", "SIGKILL"])
def test_a_restart_finds_everything(start, end):
    broker = start(STORE)
    offline(broker, "away", ("t/#", 2))
    writer = broker.connect("writer")
    writer.publish("t/kept", "retained", 1, retain=True)
    writer.publish("t/1", "one", 1)
    writer.publish("t/2", "two", 2)
    if end == "SIGKILL":
        broker.kill()
        broker.start()
    else:
        restart(broker)
    away = resume(broker, "away")
    away.expect_message("t/kept", "retained", 1)
    away.expect_message("t/1", "one", 1)
    away.expect_message("t/2", "two", 2)
    broker.connect("writer").publish("t/3", "three", 1)  # the subscription is there, too
    away.expect_message("t/3", "three", 1)
    late = broker.connect("late")
    late.subscribe("t/kept")
    late.expect_message("t/kept", "retained", retain=True)


def test_nothing_is_left_to_write_after_an_orderly_stop(start):
    """Also what nobody waits for: retained messages of QoS 0, and what was acknowledged."""
    broker = start(STORE + "persistence_lazy_delay 3600000\n")
    offline(broker, "away", ("t", 1))
    writer = broker.connect("writer")
    writer.publish("t", "one", 1)
    away = resume(broker, "away")
    away.expect_message("t", "one")
    away.ping()
    writer.publish("r", "QoS 0", 0, retain=True)
    writer.ping()
    restart(broker)
    resume(broker, "away").expect_nothing()
    reader = broker.connect("reader")
    reader.subscribe("r")
    reader.expect_message("r", "QoS 0", retain=True)


def test_what_is_held_leaves_before_the_end(start):
    """A subscriber that does not acknowledge holds the acknowledgement up for ten seconds; the stop does not wait."""
    broker = start(STORE + "persistence_commit_delay 10000\n")
    reader = broker.connect("reader", clean=False)
    reader.subscribe(("t", 1))
    writer = broker.connect("writer")
    writer.send(publish("t", "held", 1, mid=7))
    reader.expect_message("t", "held", acknowledge=False)
    broker.signal(signal.SIGTERM)
    writer.expect(PUBACK, 7)
    writer.expect_closed()
    broker.wait()
    broker.start()
    resume(broker, "reader").expect_message("t", "held", dup=True)


def test_wills_of_the_stop_are_kept(start):
    broker = start(STORE)
    offline(broker, "away", ("w", 2))
    here = [broker.connect("one", will=Will("w", b"clean", 2)),
            broker.connect("two", clean=False, will=Will("w", b"kept", 1, retain=True))]
    broker.stop()
    for client in here:
        client.expect_closed()
    assert rows(broker, "will") == 0 and rows(broker, "message") == 2  # published by then, not at the next start
    broker.start()
    away = resume(broker, "away")
    assert sorted((got.payload, got.qos) for got in (away.receive(), away.receive())) == [(b"clean", 2), (b"kept", 1)]
    away.expect_nothing()  # once: not stored as a will, too


def test_wills_of_a_crash_are_published_before_anybody_comes(start):
    broker = start(STORE)
    offline(broker, "away", ("w", 1))
    here = broker.connect("kept", clean=False, will=Will("w", b"gone", 1))
    broker.kill()
    here.close()
    broker.start()
    resume(broker, "away").expect_message("w", "gone", 1)


@pytest.mark.parametrize("limit", ["", "max_queued_messages 1000\n"])
def test_what_is_stored_has_no_limit_by_count(start, limit):
    """Unless an administrator has said one. What is not stored has the default one."""
    broker = start(STORE + "max_queued_burst 0\n" + limit)
    offline(broker, "away", ("t", 1))
    clean = broker.connect("clean")
    clean.subscribe(("t", 1))
    writer = broker.connect("writer")
    for first in range(1, 1501, 100):
        writer.send(*(publish("t", f"{i}", 1, mid=i) for i in range(first, first + 100)))
        for i in range(first, first + 100):
            writer.expect(PUBACK, i)
    broker.wait_log("dropped for client clean: its queue is full \\(1000 messages\\)")
    away = resume(broker, "away")
    for i in range(1, 1001 if limit else 1501):
        away.expect_message("t", f"{i}")
    away.expect_nothing()


# ---- files that are refused

def refused(broker, *words):
    """Status 3, the place, the words; the file stays as it was; nothing listens."""
    path = broker.dir / "bramble.db"
    before = path.read_bytes()
    with pytest.raises(Failed) as failed:
        broker.start()
    assert failed.value.status == 3
    assert f"{broker.path}:1: Error: persistence: " in failed.value.text and str(path) in failed.value.text
    for word in words:
        assert word in failed.value.text
    assert path.read_bytes() == before
    with pytest.raises(ConnectionRefusedError):
        broker.client()


def test_a_damaged_store(start):
    broker = start(STORE)
    offline(broker, "away", ("t", 1))
    broker.connect("writer").publish("t", "x" * 500, 1)
    broker.stop()
    path = broker.dir / "bramble.db"
    path.write_bytes(path.read_bytes().replace(b"x" * 500, b"x" * 400 + b"y" * 100))
    refused(broker)


@pytest.mark.parametrize("content", [b"this is a letter\n" * 1000, b"\0\0\0\0\0\0mosquitto db" + bytes(3000), b"SQLite"])
def test_a_foreign_file(start, content):
    broker = start(STORE)
    broker.stop()
    (broker.dir / "bramble.db").write_bytes(content)
    refused(broker)


def test_a_database_of_another_program(start):
    broker = start(STORE)
    broker.stop()
    (broker.dir / "bramble.db").unlink()
    with sqlite3.connect(broker.dir / "bramble.db") as other:
        other.execute("create table message(text)")
    refused(broker)


def test_a_store_in_use(start):
    """And the one who has it is not disturbed."""
    broker = start(STORE)
    offline(broker, "away", ("t", 1))
    other = start(f"persistence true\npersistence_location {broker.dir}/\n", wait=False)
    with pytest.raises(Failed) as failed:
        other.wait_notify("READY=1")
    assert failed.value.status == 3 and "bramble.db" in failed.value.text
    broker.connect("writer").publish("t", "x", 1)
    restart(broker)
    resume(broker, "away").expect_message("t", "x")


def test_a_place_that_cannot_be_written(start):
    with pytest.raises(Failed) as failed:
        start("persistence true\npersistence_location /proc\n")
    assert failed.value.status == 3 and "/proc/bramble.db" in failed.value.text


def test_a_store_of_mosquitto_is_said_to_be_not_imported(start):
    """Whatever is in it."""
    broker = start(STORE, files={"mosquitto.db": "as it was"})
    broker.wait_log(r"mosquitto\.db, a store of mosquitto, is left as it is: its messages are not imported")
    broker.stop()
    assert (broker.dir / "mosquitto.db").read_text() == "as it was"
    broker = start("persistence true\npersistence_location {dir}\n")
    broker.stop()
    assert "a store of mosquitto" not in broker.log


# ---- what is told

def follow(client, name, wanted):
    client.subscribe("$SYS/broker/store/" + name)
    while not wanted(client.receive().payload.decode()):
        pass
    client.unsubscribe("$SYS/broker/store/" + name)


def test_sys(start):
    broker = start(STORE)
    watcher = broker.connect("watcher")
    offline(broker, "away", ("t", 1))
    here = broker.connect("here", clean=False)
    here.subscribe(("h", 1))
    writer = broker.connect("writer")
    for _ in range(3):
        writer.publish("t", "x", 1)
        writer.send(publish("h", "y", 1, mid=9))
        here.expect_message("h", "y")
        writer.expect(PUBACK, 9)
    follow(watcher, "trouble", lambda text: text == "none")
    follow(watcher, "messages/stored", lambda text: text == "3")
    follow(watcher, "annihilated", lambda text: text == "3")
    follow(watcher, "pending_bytes", lambda text: text == "0")
    follow(watcher, "commits", lambda text: int(text) >= 3)
    follow(watcher, "syncs", lambda text: int(text) >= 3)
    follow(watcher, "bytes_written", lambda text: int(text) > 1000)
    for name in ("file_bytes", "wal_bytes"):
        follow(watcher, name, lambda text: int(text) > 0)
    for name in ("blocked", "failures"):
        follow(watcher, name, lambda text: text == "0")


def test_nothing_is_told_of_a_store_that_is_not_there(start):
    broker = start("sys_interval 1\n")
    client = broker.connect("c")
    client.subscribe("$SYS/broker/store/#", "$SYS/broker/uptime")
    rounds = 0
    while rounds < 2:
        got = client.receive()
        assert got.topic.rsplit("/", 1)[1] not in ("trouble", "commits", "syncs", "blocked", "stored")
        rounds += got.topic == "$SYS/broker/uptime"


def test_a_reload_makes_no_store_and_takes_none_away(start):
    broker = start("persistence false\npersistence_location {dir}\n")
    broker.configure("persistence true\npersistence_location {dir}\n")
    broker.reload()
    broker.wait_log("Reload: persistence takes effect at a restart only")
    assert not (broker.dir / "bramble.db").exists()
    broker.stop()
    broker.start()
    offline(broker, "away", ("t", 1))
    broker.configure("persistence false\n")
    broker.reload()
    broker.connect("writer").publish("t", "x", 1)
    broker.configure("persistence true\npersistence_location {dir}\n")
    restart(broker)
    resume(broker, "away").expect_message("t", "x")


@pytest.mark.parametrize("signals", [1, 2])
def test_a_stop_while_much_is_written(start, signals):
    """A second signal ends it at once; what was acknowledged is there all the same."""
    broker = start(STORE)
    offline(broker, "away", ("t", 1))
    writer = broker.connect("writer")
    writer.send(*(publish("t", f"{i:05}", 1, mid=i) for i in range(1, 1001)))
    writer.expect(PUBACK, 1)
    for _ in range(signals):
        broker.signal(signal.SIGTERM)
    acknowledged = 1
    try:
        while True:
            writer.expect(PUBACK, acknowledged + 1)
            acknowledged += 1
    except Exception:  # pylint: disable=broad-except  # the end of the connection, however it came
        pass
    broker.wait()
    broker.start()
    away = resume(broker, "away")
    for i in range(1, acknowledged + 1):
        away.expect_message("t", f"{i:05}")
