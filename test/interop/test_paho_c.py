"""paho-mqtt for C: programs of its synchronous and its asynchronous client, compiled here."""

import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "paho_c"
LIBRARIES = {"sync": "-lpaho-mqtt3cs", "async": "-lpaho-mqtt3as"}
SCHEME = {"tcp": "tcp", "tls": "ssl", "ws": "ws", "wss": "wss"}


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("paho_c")
    for name, library in LIBRARIES.items():
        subprocess.run(["gcc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-o", folder / name, HERE / f"{name}.c", library,
                        "-lpthread"], check=True)
    return folder


@pytest.mark.parametrize("program", LIBRARIES)
def test_paho_c(anywhere, programs, program):
    broker = anywhere.start("max_queued_messages 0\nallow_anonymous true\n")
    kind = anywhere.transport
    args = [f"{SCHEME[kind]}://localhost:{broker.ports[kind]}", *([str(broker.pki.ca)] if kind in ("tls", "wss") else [])]
    done = subprocess.run([programs / program, *args], capture_output=True, text=True, timeout=180, check=False)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr
