"""bramble store check|dump|vacuum: what it says of whole stores, of damaged ones, and of what is no store."""

import json
import os
import sqlite3
import subprocess

import pytest

from bramble import PROGRAM, run

CONFIG = "persistence true\npersistence_location {dir}\n"
PAYLOAD = "payload of message {}"


def fill(broker, count=20):
    """A kept session that is away, with messages for it, and a retained one."""
    away = broker.connect("away", clean=False)
    away.subscribe(("q/#", 1))
    away.disconnect()
    publisher = broker.connect("publisher")
    for i in range(count):
        publisher.publish("q/t", PAYLOAD.format(i), 1)
    publisher.publish("kept", "retained", 1, retain=True)
    publisher.disconnect()


def files(store):
    return {path.name: path.read_bytes() for path in store.parent.glob(store.name + "*")}


@pytest.fixture
def running(start):
    """A broker with something in its store, and the path of that."""
    broker = start(CONFIG)
    fill(broker)
    return broker, broker.dir / "bramble.db"


@pytest.fixture
def store(running):
    """Of a broker that has stopped in good order."""
    running[0].stop()
    return running[1]


@pytest.fixture
def killed(running):
    """Of a broker that was killed: all that is new is in the -wal."""
    running[0].kill()
    wal = running[1].with_name("bramble.db-wal")
    assert PAYLOAD.format(19).encode() in wal.read_bytes()
    return running[1], wal


def flip(path, text, which=0):
    data = bytearray(path.read_bytes())
    at = -1
    for _ in range(which + 1):
        at = data.index(text.encode(), at + 1)
    data[at + 3] ^= 0x20
    path.write_bytes(data)


def test_whole(store):
    before = files(store)
    done = run("store", "check", store)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f"{store}: whole\n")
    assert files(store) == before


def test_dump(store):
    before = files(store)
    done = run("store", "dump", store)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    messages = [row for row in rows if row["table"] == "message"]
    assert [(row["topic"], row["payload"]) for row in messages] == [("q/t", PAYLOAD.format(i)) for i in range(20)]
    session, = [row for row in rows if row["table"] == "session"]
    assert session["client_id"] == "away" and messages[0]["owed"][0]["session"] == session["number"]
    retained, = [row for row in rows if row["table"] == "retained"]
    assert (retained["topic"], retained["payload"]) == ("kept", "retained")
    assert files(store) == before


def test_vacuum(running):
    """Smaller when much is gone, and all the rest is still there for its client."""
    broker, store = running
    publisher = broker.connect("publisher")
    for size in (100_000, 0):
        for i in range(20):
            publisher.publish(f"big/{i}", "x" * size, 1, retain=True)
    publisher.disconnect()
    broker.stop()
    before = store.stat().st_size
    done = run("store", "vacuum", store)
    assert (done.returncode, done.stderr) == (0, "")
    assert store.stat().st_size < before / 10
    assert run("store", "check", store).returncode == 0
    broker.start()
    away = broker.connect("away", clean=False)
    for i in range(20):
        away.expect_message("q/t", PAYLOAD.format(i))
    away.disconnect()


def test_damaged_row(store):
    flip(store, PAYLOAD.format(7))
    before = files(store)
    done = run("store", "check", store)
    assert (done.returncode, done.stderr) == (1, "")
    assert "damaged: table message, number" in done.stdout and "its checksum is wrong" in done.stdout
    assert f"{store}: DAMAGED, 1 places" in done.stdout
    done = run("store", "dump", store)
    damaged = [json.loads(line) for line in done.stdout.splitlines() if '"damaged"' in line]
    assert done.returncode == 1 and [row["payload"] for row in damaged] == [PAYLOAD.format(7).replace("payload", "payLoad")]
    done = run("store", "vacuum", store)
    assert done.returncode == 1 and "left as it is" in done.stdout
    assert files(store) == before


def test_damaged_wal(killed):
    store, wal = killed
    flip(wal, PAYLOAD.format(0))
    os.unlink(store.with_name("bramble.db-shm"))
    done = run("store", "check", store)
    assert done.returncode == 1 and "bramble.db-wal: damaged at byte" in done.stdout
    assert "commits from there on would be lost" in done.stdout
    data = wal.read_bytes()
    done = run("store", "vacuum", store)
    assert done.returncode == 1 and wal.read_bytes() == data


def test_wal_of_a_killed_broker_is_whole(killed):
    store, wal = killed
    data = wal.read_bytes()
    done = run("store", "check", store)
    assert (done.returncode, done.stderr) == (0, "") and f"{store}: whole\n" in done.stdout
    assert PAYLOAD.format(19) in run("store", "dump", store).stdout
    assert wal.read_bytes() == data


def test_torn_wal_is_whole(killed):
    """As a power cut leaves it, and said to be that."""
    store, wal = killed
    os.unlink(store.with_name("bramble.db-shm"))
    os.truncate(wal, wal.stat().st_size - 100)
    done = run("store", "check", store)
    assert done.returncode == 0 and "its last transaction is not whole" in done.stdout


def test_wal_that_was_cut_is_damage_when_it_is_known(killed):
    """The -shm says how many frames were committed."""
    store, wal = killed
    os.truncate(wal, wal.stat().st_size - 100)
    done = run("store", "check", store)
    assert done.returncode == 1 and "pages were committed" in done.stdout


def test_while_a_broker_has_it(running):
    broker, store = running
    done = run("store", "check", store)
    assert done.returncode == 0 and "in use by a running bramble" in done.stdout
    assert PAYLOAD.format(19) in run("store", "dump", store).stdout
    done = run("store", "vacuum", store)
    assert done.returncode == 2 and "in use by another bramble" in done.stderr
    publisher = broker.connect("publisher")
    publisher.publish("q/t", "one more", 1)
    publisher.disconnect()
    assert "one more" in run("store", "dump", store).stdout
    broker.stop()
    assert run("store", "check", store).returncode == 0


@pytest.fixture
def others(tmp_path):
    """Files that are no stores of ours."""
    (tmp_path / "mosquitto.db").write_bytes(b"\x00\xb5\x00mosquitto db" + bytes(100))
    (tmp_path / "text").write_text("not a store\n" * 100)
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    with sqlite3.connect(tmp_path / "foreign") as db:
        db.execute("CREATE TABLE t (a)")
    db.close()
    return tmp_path


@pytest.mark.parametrize("command", ["check", "dump", "vacuum"])
@pytest.mark.parametrize("name, says", [
    ("mosquitto.db", "a store of mosquitto"), ("text", "not a store of bramble"), ("foreign", "of another program"),
    ("folder", "not a regular file"), ("missing", "No such file"), ("empty", "not a store of bramble"),
])
def test_no_store(others, name, says, command):
    before = files(others / name) if name != "folder" else None
    done = run("store", command, others / name)
    assert (done.returncode, done.stdout) == (2, "") and says in done.stderr and str(others / name) in done.stderr
    assert name == "folder" or files(others / name) == before


@pytest.mark.parametrize("args, says", [
    ([], "a command is needed"), (["eat", "x"], "there is no command eat"), (["check"], "one FILE is needed after check"),
    (["dump", "a", "b"], "one FILE is needed after dump"),
])
def test_not_understood(args, says):
    done = run("store", *args)
    assert (done.returncode, done.stdout) == (2, "") and says in done.stderr


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(option):
    done = run("store", option)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"bramble store {command} FILE" in done.stdout for command in ("check", "dump", "vacuum"))


def test_answer_that_cannot_be_written(store):
    """Half a dump must not pass for a whole one."""
    with open("/dev/full", "w") as full:
        done = subprocess.run([PROGRAM, "store", "dump", store], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2 and "No space left" in done.stderr
