"""disk: a daemon whose disk stalls, fills up or fails when a test wants it (disk_shim.c, for LD_PRELOAD).

    def test_x(durable):
        broker = durable("persistence_commit_delay 0")   # persistence true, the store in broker.dir
        with broker.disk.stalled():                      # no sync of the store comes to an end
            ...
            broker.disk.wait_stalled()                   # one has begun, and hangs
        broker.disk.room = 100_000                       # bytes by which files may grow; None: as many as they like
        broker.disk.fail(errno.EIO)                      # every write and sync of the store; fail(0): no more

A shim rather than a small file system: it needs no rights, is the same everywhere, and can be told when.
"""

import contextlib
import mmap
import os
import struct
import subprocess
import time
from pathlib import Path

import pytest

from streams import TIMEOUT

FIELDS = ("stall", "waiting", "sync_error", "write_error", "room", "watch", "by_loop", "syncs", "writes", "refused")
SYNC, WRITE, OTHERS = 1, 2, 4


class Disk:
    """The other end of struct control."""

    def __init__(self, library, folder, store="bramble.db"):
        folder = Path(folder)
        path = folder / "control"
        path.write_bytes(bytes(4096))
        with open(path, "r+b") as file:
            self.page = mmap.mmap(file.fileno(), 4096)
        self.room = None
        options = os.environ.get("ASAN_OPTIONS", "")
        self.env = {"LD_PRELOAD": str(library), "DISK_CONTROL": str(path), "DISK_STORE": str(folder / store),
                    "DISK_PLACE": str(folder / "log"),
                    "ASAN_OPTIONS": ":".join(filter(None, [options, "verify_asan_link_order=0"]))}

    def get(self, name):
        return struct.unpack_from("q", self.page, 8 * FIELDS.index(name))[0]

    def put(self, name, value):
        struct.pack_into("q", self.page, 8 * FIELDS.index(name), value)

    @property
    def room(self):
        return self.get("room")

    @room.setter
    def room(self, value):
        self.put("room", -1 if value is None else value)

    def fail(self, error):
        self.put("write_error", error)
        self.put("sync_error", error)

    def stall(self, what=SYNC):
        self.put("stall", what)

    def go_on(self):
        self.put("stall", 0)

    @contextlib.contextmanager
    def stalled(self, what=SYNC):
        self.stall(what)
        try:
            yield
        finally:
            self.go_on()

    def wait(self, name, least):
        """Until the daemon has done that: a poll, as nobody tells."""
        end = time.monotonic() + TIMEOUT
        while self.get(name) < least:
            assert time.monotonic() < end, f"{name} is {self.get(name)}, and does not get to {least}"
            time.sleep(0.002)

    def wait_stalled(self, count=1):
        self.wait("waiting", count)

    def wait_refused(self):
        """Until the disk has refused something, from now on."""
        self.wait("refused", self.get("refused") + 1)


def build(folder):
    """Compiles the shim."""
    library = Path(folder) / "disk.so"
    source = Path(__file__).with_name("disk_shim.c")
    subprocess.run([os.environ.get("CC", "cc"), "-std=gnu11", "-D_GNU_SOURCE", "-O1", "-fPIC", "-shared", "-o", library, source],
                   check=True)
    return library


@pytest.fixture(scope="session")
def disk_library(tmp_path_factory):
    return build(tmp_path_factory.mktemp("disk"))


@pytest.fixture
def durable(start, disk_library, tmp_path):
    """durable("configuration", ...) runs a daemon with a store on a disk that obeys: broker.disk. At the end the disk is
    well again, so that the daemon can stop as it should; its loop must never have touched the store's files."""
    disks = []

    def factory(config="", folder="broker0", **options):
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        disk = Disk(disk_library, place)
        disks.append(disk)
        broker = start("persistence true\npersistence_location {dir}/\n" + config, env=disk.env, **options)
        assert broker.dir == place
        broker.disk = disk
        disk.put("watch", 1)
        return broker

    yield factory
    for disk in disks:
        disk.go_on()
        disk.fail(0)
        disk.room = None
        assert not disk.get("by_loop"), f"the loop's thread has touched the store {disk.get('by_loop')} times"
        disk.put("watch", 0)
