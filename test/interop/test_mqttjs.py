"""mqtt.js, in node: mqttjs.mjs over each transport."""

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SCHEME = {"tcp": "mqtt", "tls": "mqtts", "ws": "ws", "wss": "wss"}

needs_node = pytest.mark.skipif(not shutil.which("node") or not (HERE / "node_modules" / "mqtt").exists(),
                                reason="node or its modules are not there (make interop fetches them)")


@needs_node
def test_mqttjs(anywhere):
    broker = anywhere.start("max_queued_messages 0\nallow_anonymous true\n")
    kind = anywhere.transport
    url = f"{SCHEME[kind]}://localhost:{broker.ports[kind]}" + ("/mqtt" if kind.startswith("ws") else "")
    done = subprocess.run(["node", HERE / "mqttjs.mjs", url, *([broker.pki.ca] if kind in ("tls", "wss") else [])], text=True,
                          capture_output=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr
