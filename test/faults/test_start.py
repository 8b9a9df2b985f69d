"""A file that is not a store of ours, or not whole, or somebody else's: the daemon does not start, says why, and leaves the
file exactly as it is."""

import errno
import os
import sqlite3
import subprocess

import pytest

from bramble import Broker, Failed
from rounds import MOSQUITTO, Other

CONFIG = "persistence true\npersistence_location {dir}/\n"
KEPT = {"clean": False, "keepalive": 0}


def refused(folder, config=CONFIG, status=None):
    """The daemon is started and ends; what it says."""
    broker = Broker(folder, config)
    with pytest.raises(Failed) as failed:
        broker.start()
    broker.kill()
    assert failed.value.status not in (0, None) and failed.value.status > 0, failed.value.text
    return failed.value.text


def filled(folder):
    """A store with messages in it, of a daemon that has ended. Returns its path."""
    broker = Broker(folder, CONFIG).start()
    try:
        sub = broker.connect("away", **KEPT)
        sub.subscribe(("t/#", 1))
        sub.disconnect()
        pub = broker.connect("p")
        for number in range(200):
            pub.publish(f"t/{number}", "x" * 200, 1, retain=True)
        broker.stop()
    finally:
        broker.kill()
    return broker.dir / "bramble.db"


def state_of(folder):
    return {name: (folder / name).read_bytes() for name in os.listdir(folder) if name.startswith(("bramble.db", "mosquitto.db", "x.db"))}


@pytest.mark.parametrize("damage", ["first page", "in the middle", "cut off", "a byte of a row"])
def test_corrupt_file(tmp_path, damage):
    path = filled(tmp_path / "b")
    data = bytearray(path.read_bytes())
    if damage == "first page":
        data[100:900] = bytes(800)
    elif damage == "in the middle":
        middle = len(data) // 2
        data[middle - 4096:middle + 4096] = os.urandom(8192)
    elif damage == "cut off":
        del data[len(data) // 2:]
    else:
        at = data.rindex(b"x" * 200)
        data[at + 100] ^= 1
    path.write_bytes(data)
    before = state_of(path.parent)
    said = refused(path.parent)
    assert str(path) in said, said
    assert state_of(path.parent)["bramble.db"] == before["bramble.db"], "the file was changed"


@pytest.mark.parametrize("content", [b"not a database\n" * 100, b"\0" * 5000, b"x"], ids=["text", "zeros", "byte"])
def test_foreign_file(tmp_path, content):
    folder = tmp_path / "b"
    folder.mkdir()
    path = folder / "bramble.db"
    path.write_bytes(content)
    said = refused(folder)
    assert str(path) in said, said
    assert state_of(folder) == {"bramble.db": content}, "the file was changed, or others were made"


def test_foreign_database(tmp_path):
    folder = tmp_path / "b"
    folder.mkdir()
    path = folder / "bramble.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE recipe (name TEXT)")
        db.execute("INSERT INTO recipe VALUES ('soup')")
    db.close()
    before = state_of(folder)
    said = refused(folder)
    assert str(path) in said, said
    assert state_of(folder) == before


def test_newer_database(tmp_path):
    path = filled(tmp_path / "b")
    with sqlite3.connect(path) as db:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        assert version > 0
        db.execute(f"PRAGMA user_version = {version + 1}")
    db.close()
    before = state_of(path.parent)
    assert str(path) in refused(path.parent)
    assert state_of(path.parent)["bramble.db"] == before["bramble.db"]


@pytest.fixture
def mosquitto_db(tmp_path):
    """A mosquitto.db with something in it, made by mosquitto itself."""
    broker = Other(tmp_path / "m", [MOSQUITTO, "-c", "{dir}/conf"])
    (broker.dir / "conf").write_text(f"listener {broker.port} 127.0.0.1\nallow_anonymous true\npersistence true\nuser root\n"
                                     f"persistence_location {broker.dir}/\n")
    broker.start()
    subprocess.run(["/usr/bin/mosquitto_pub", "-p", str(broker.port), "-q", "1", "-r", "-t", "a/b", "-m", "kept"], check=True)
    broker.stop()
    return broker.dir / "mosquitto.db"


def test_mosquitto_db_under_the_configured_name(tmp_path, mosquitto_db):
    before = mosquitto_db.read_bytes()
    said = refused(mosquitto_db.parent, CONFIG + "persistence_file mosquitto.db\n")
    assert "mosquitto" in said.lower() and "import" in said, said
    assert mosquitto_db.read_bytes() == before
    assert sorted(p.name for p in mosquitto_db.parent.iterdir() if p.name.startswith("mosquitto.db")) == ["mosquitto.db"]


def test_mosquitto_db_beside_ours_is_left_alone(tmp_path, mosquitto_db):
    before = mosquitto_db.read_bytes()
    broker = Broker(mosquitto_db.parent, CONFIG).start()
    try:
        client = broker.connect("c")
        client.subscribe("#")
        client.ping()  # nothing is retained
        broker.stop()
    finally:
        broker.kill()
    assert mosquitto_db.read_bytes() == before


def test_in_use_by_another_daemon(start, tmp_path):
    first = start(CONFIG)
    sub = first.connect("away", **KEPT)
    sub.subscribe(("t/#", 1))
    sub.disconnect()
    second = Broker(tmp_path / "second", f"persistence true\npersistence_location {first.dir}/\n")
    with pytest.raises(Failed) as failed:
        second.start()
    assert failed.value.status > 0 and str(first.dir / "bramble.db") in failed.value.text and "use" in failed.value.text
    client = first.connect("p")  # which goes on, and keeps what it takes
    client.publish("t/a", "x", 1)
    first.kill()
    first.start()
    owner = first.connect("away", clean=False)
    owner.expect_message("t/a", "x", 1)


def test_no_place(tmp_path):
    said = refused(tmp_path / "b", "persistence true\npersistence_location {dir}/nowhere/\n")
    assert "nowhere" in said


def test_not_a_file(tmp_path):
    folder = tmp_path / "b"
    (folder / "bramble.db").mkdir(parents=True)
    assert str(folder / "bramble.db") in refused(folder)


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "stopped"])
@pytest.mark.parametrize("trouble,says", [(errno.EIO, "Input/output"), (errno.EROFS, "Read-only"), (None, "started")],
                         ids=["EIO", "read-only", "little room"])
def test_disk_in_trouble_at_start(durable, trouble, says, killed):
    """On a disk that fails it does not start, and says why; with less room than is to be kept free it does, so that who comes
    can take what is there. When the disk is well, everything is there in either case."""
    broker = durable("persistence_min_free 1048576\n")
    sub = broker.connect("away", **KEPT)
    sub.subscribe(("t/#", 1))
    sub.disconnect()
    client = broker.connect("p")
    for number in range(5):
        client.publish("t/a", f"{number}", 1)
    broker.disk.put("watch", 0)
    if killed:
        broker.kill()
    else:
        broker.stop()
    if trouble:
        broker.disk.fail(trouble)
        with pytest.raises(Failed) as failed:
            broker.start()
        assert str(broker.dir / "bramble.db") in failed.value.text and says in failed.value.text
        broker.disk.fail(0)
    else:
        broker.disk.room = 1 << 19
    broker.start()
    owner = broker.connect("away", clean=False)
    assert [owner.receive().payload for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]
    owner.ping()


def test_torn_tail_of_the_wal_is_no_damage(start):
    """A kill leaves a -wal; the last bytes of it may be missing: what was not acknowledged is gone, the rest is there."""
    broker = start(CONFIG)
    sub = broker.connect("away", **KEPT)
    sub.subscribe(("t/#", 1))
    sub.disconnect()
    client = broker.connect("p")
    client.publish("t/a", "x", 1)
    broker.kill()
    wal = broker.dir / "bramble.db-wal"
    data = wal.read_bytes()
    assert data
    wal.write_bytes(data + data[-700:])
    broker.start()
    owner = broker.connect("away", clean=False)
    owner.expect_message("t/a", "x", 1)
    owner.ping()
