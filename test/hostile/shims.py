"""shims: a daemon whose memory, descriptors and clocks a test can take away (shim.c, for LD_PRELOAD).

    def test_x(start, shim):
        broker = start("...", env=shim.env)
        shim.fail(10)                       # the tenth allocation from now on gets nothing; shim.failed counts
        shim.error("accept", errno.ENFILE)  # until shim.error("accept", 0)
        shim.ahead("realtime", 86400)       # seconds
"""

import mmap
import os
import struct
import subprocess
import time
from pathlib import Path

import pytest

from bramble import SANITIZED

CALLS = ("accept", "open", "socket", "thread")
CLOCKS = {name: getattr(time, "CLOCK_" + name.upper()) for name in ("realtime", "monotonic", "boottime")}
ALWAYS = 2**62


class Shim:
    """The other end of struct control."""

    def __init__(self, library, folder):
        self.path = Path(folder) / "control"
        self.path.write_bytes(bytes(4096))
        with open(self.path, "r+b") as file:
            self.page = mmap.mmap(file.fileno(), 4096)
        options = os.environ.get("ASAN_OPTIONS", "")
        self.env = {"LD_PRELOAD": str(library), "SHIM_CONTROL": str(self.path),
                    "ASAN_OPTIONS": ":".join(filter(None, [options, "verify_asan_link_order=0"]))}

    def _get(self, place):
        return struct.unpack_from("q", self.page, 8 * place)[0]

    def _set(self, place, value):
        struct.pack_into("q", self.page, 8 * place, value)

    @property
    def allocations(self):
        return self._get(0)

    @property
    def failed(self):
        return self._get(3)

    def fail(self, number, count=1):
        """The number-th allocation from now on (1 is the next), and count - 1 more, get nothing. None: all get theirs."""
        self._set(1, 0)
        self._set(2, 0)
        self._set(3, 0)
        if number is not None:
            first = self.allocations + number - 1
            self._set(1, first)
            self._set(2, first + count)

    def calm(self):
        self.fail(None)

    def error(self, call, number):
        self._set(4 + CALLS.index(call), number)

    def refused(self, call):
        """How often it failed so far."""
        return self._get(4 + len(CALLS) + CALLS.index(call))

    def ahead(self, clock, seconds):
        self._set(4 + 2 * len(CALLS) + CLOCKS[clock], int(seconds * 10**9))


@pytest.fixture(scope="session")
def shim_library(tmp_path_factory):
    library = tmp_path_factory.mktemp("shim") / "shim.so"
    source = Path(__file__).with_name("shim.c")
    subprocess.run([os.environ.get("CC", "cc"), "-std=gnu11", "-D_GNU_SOURCE", "-O1", "-fPIC", "-shared", "-o", library, source],
                   check=True)
    return library


@pytest.fixture
def shim(shim_library, tmp_path):
    return Shim(shim_library, tmp_path)


def every(count, most):
    """Numbers from 1 to count: all of them with HOSTILE_ALL in the environment (and LONGEST=9999), else about as many as
    `most`, spread over the whole; fewer with a sanitizer."""
    if os.environ.get("HOSTILE_ALL"):
        return range(1, count + 1)
    most = most // 4 if SANITIZED else most
    return range(1, count + 1, max(1, count // most))
