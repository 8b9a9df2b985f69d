"""acl_file: the distribution's mosquitto and bramble read the same generated files and give the same rights.

Each user publishes to all topics, and gets what an administrator publishes to all of them; what arrives is compared.
"""

import random
import shutil
import subprocess
import time

import pytest

from bramble import Broker, free_port
from rawmqtt import PINGREQ, PINGRESP, PUBLISH, Client, packet
from streams import tcp

USERS = {"u1": "c1", "a/b": "c2", "u+": "c3", "b": "a", None: "c5"}  # and their client ids
LEVELS = ("a", "b", "u1", "c1", "")


def topics(chance):
    """Of up to four levels, some of them empty."""
    return sorted({"/".join(chance.choices(LEVELS, k=chance.randint(1, 4))) for _ in range(60)} - {""})


def a_filter(chance, names):
    levels = chance.choices([*LEVELS, "+", *(["%u", "%c", "a%u", "%c%u"] if names else [])], k=chance.randint(1, 3))
    return "/".join(levels + (["#"] if chance.random() < 0.4 else [])) or "a"


def rules(chance):
    """Sections that come again, rules that overlap, patterns between them."""
    lines = []
    for _ in range(chance.randint(10, 40)):
        kind = chance.random()
        if kind < 0.3:
            lines.append(f"user {chance.choice([user for user in USERS if user])}")
        else:
            word = chance.choice(["topic", "topic", "pattern"]) if kind < 0.9 else "pattern"
            right = chance.choice(["", "read ", "write ", "readwrite ", "deny "])
            lines.append(f"{word} {right}{a_filter(chance, word == 'pattern')}")
    return "\n".join([*lines, "user admin", "topic readwrite #", ""])


class Side:
    """One of the two brokers, seen from its port."""

    def __init__(self, port):
        self.port = port

    def client(self, client_id, user):
        client = Client(tcp(self.port))
        client.connect(client_id, **({"user": user, "password": "p"} if user else {}))
        return client

    @staticmethod
    def all_of(client):
        """The messages that have been sent to it so far."""
        client.send(packet(PINGREQ, 0))
        messages = []
        while (got := client.next()).kind != PINGRESP:
            assert got.kind == PUBLISH
            messages.append(got)
        return messages

    def rights(self, names):
        found = set()
        admin, watcher = self.client("admin", "admin"), self.client("watcher", "admin")
        for user, client_id in USERS.items():
            reader = self.client(client_id, user)
            reader.subscribe(("#", 0))
            for topic in names:
                admin.publish(topic, "r", 1)
            found |= {(user, "read", got.topic) for got in self.all_of(reader)}
            reader.close()
        watcher.subscribe(("#", 0))
        for user, client_id in USERS.items():
            writer = self.client(client_id, user)
            for topic in names:
                writer.publish(topic, "w", 1)
            found |= {(user, "write", got.topic) for got in self.all_of(watcher)}
            writer.close()
        admin.close()
        watcher.close()
        return found


@pytest.fixture
def mosquitto():
    """Starts it with a configuration; it ends with the test."""
    running = []

    def start(path):
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        port = free_port()
        text = path.read_text()
        path.write_text(f"listener {port} 127.0.0.1\nuser root\n{text}")
        process = subprocess.Popen([program, "-c", str(path)], stderr=subprocess.DEVNULL)
        running.append(process)
        while True:
            assert process.poll() is None, "mosquitto has ended"
            try:
                tcp(port).close()
                return Side(port)
            except ConnectionRefusedError:
                time.sleep(0.02)

    yield start
    for process in running:
        process.terminate()
        process.wait()


@pytest.mark.parametrize("seed", range(12))
def test_same_rights_as_mosquitto(start, mosquitto, tmp_path, seed):
    chance = random.Random(f"acl {seed}")
    text, names = rules(chance), topics(chance)
    broker = start("acl_file {dir}/acl\npassword_file {dir}/passwd\nallow_anonymous true\n",
                   files={"acl": text, "passwd": " ".join(f"{user}:p" for user in [*USERS, "admin"] if user)})
    conf = tmp_path / "mosquitto.conf"
    conf.write_text(f"acl_file {broker.dir}/acl\npassword_file {broker.dir}/passwd\nallow_anonymous true\n")
    ours, theirs = Side(broker.ports["tcp"]).rights(names), mosquitto(conf).rights(names)
    assert ours == theirs, f"only we: {sorted(map(str, ours - theirs))}\nonly mosquitto: {sorted(map(str, theirs - ours))}\n{text}"
    assert 0 < len(ours) < 2 * len(USERS) * len(names), "this shows nothing"
