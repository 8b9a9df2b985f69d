"""bramble acl check: what it says is what the daemon does, and it names the line."""

import pytest

from bramble import run
from rawmqtt import SUBACK, subscribe

RULES = """# line 1
topic read public/#
user admin
topic readwrite #
topic deny secret/#
user sensor
topic write in/#
topic subscribe out/#
pattern read out/%u/%c
"""
ROWS = [  # user, client id, topic, action, what it says
    (None, "c", "public/x", "receive", "allowed by {acl}:2"),
    (None, "c", "public/x", "publish", "denied: no line allows it"),
    (None, "c", "#", "subscribe", "allowed: no 'subscribe' rule concerns this client; ask for what it may receive"),
    ("admin", "c", "any/x", "publish", "allowed by {acl}:4"),
    ("admin", "c", "secret/x", "publish", "denied by {acl}:5"),
    ("admin", "c", "$SYS/x", "publish", "denied: no line allows it"),
    ("sensor", "s1", "in/x", "publish", "allowed by {acl}:7"),
    ("sensor", "s1", "out/sensor/s1", "receive", "allowed by {acl}:9"),
    ("sensor", "s2", "out/sensor/s1", "receive", "denied: no line allows it"),
    ("sensor", "s1", "out/+/s1", "subscribe", "allowed by {acl}:8"),
    ("sensor", "s1", "#", "subscribe", "denied: no line allows it"),
    ("other", "c", "public/x", "receive", "denied: no line allows it"),
]


def ask(*options, user, client, topic, action):
    names = ["--user", user] if user else []
    return run("acl", "check", *options, *names, "--client", client, "--topic", topic, "--action", action)


@pytest.fixture
def broker(start):
    return start("acl_file {dir}/acl\nallow_anonymous true\npassword_file {dir}/passwd\n",
                 files={"acl": RULES, "passwd": "admin:p sensor:p other:p"})


@pytest.mark.parametrize("user, client, topic, action, says", ROWS)
def test_agrees_with_the_daemon(broker, user, client, topic, action, says):
    done = ask("-c", broker.path, user=user, client=client, topic=topic, action=action)
    assert done.stdout == says.format(acl=broker.dir / "acl") + "\n" and done.stderr == ""
    allowed = done.returncode == 0
    assert allowed == says.startswith("allowed") and done.returncode in (0, 1)

    login = {"user": user, "password": "p"} if user else {}
    one, admin = broker.connect(client, **login), broker.connect("admin", user="admin", password="p")
    if action == "subscribe":
        one.send(subscribe(1, (topic, 0)))
        assert one.expect(SUBACK).body[2:] == bytes([0 if allowed else 0x80])
        return
    writer, reader = (one, admin) if action == "publish" else (admin, one)
    reader.subscribe((topic, 1))
    writer.publish(topic, "x", 1)
    if allowed:
        reader.expect_message(topic, "x", qos=1)
    reader.expect_nothing()


def test_file_alone(broker):
    done = ask("--file", broker.dir / "acl", user="admin", client="c", topic="x", action="publish")
    assert (done.returncode, done.stdout) == (0, f"allowed by {broker.dir}/acl:4\n")


def test_listeners_with_files_of_their_own(start):
    broker = start("per_listener_settings true\nlistener {tcp} 127.0.0.1\nallow_anonymous true\n"
                   "listener {tcp2} 127.0.0.1\nallow_anonymous true\nacl_file {dir}/acl\n", files={"acl": "topic read a\n"})
    question = {"user": None, "client": "c", "topic": "b", "action": "receive"}
    assert ask("-c", broker.path, **question).stdout == "allowed: there is no acl_file\n"
    for port, status in (("tcp", 0), ("tcp2", 1)):
        assert ask("-c", broker.path, "--port", str(broker.ports[port]), **question).returncode == status
    done = ask("-c", broker.path, "--port", "1", **question)
    assert done.returncode == 2 and "no listener has port 1" in done.stderr


def test_help():
    done = run("acl", "-h")
    assert done.returncode == 0 and "--action publish|subscribe|receive" in done.stdout


@pytest.mark.parametrize("options, says", [
    ((), "the only command is 'check'"),
    (("chek",), "the only command is 'check'"),
    (("check", "more"), "the only command is 'check'"),
    (("check", "--nonsense"), "not understood"),
    (("check", "--topic", "a"), "--topic and --action are needed"),
    (("check", "--topic", "a", "--action", "read"), "not publish, subscribe or receive: read"),
    (("check", "--topic", "#", "--action", "publish"), "not a topic name: #"),
    (("check", "--topic", "a/#/b", "--action", "subscribe"), "not a topic filter: a/#/b"),
    (("check", "--topic", "\udcff", "--action", "publish"), "the topic is not UTF-8"),
    (("check", "--port", "x", "--topic", "a", "--action", "publish"), "not a port number: x"),
    (("check", "--file", "/f", "--port", "1", "--topic", "a", "--action", "publish"), "either --file, or"),
    (("check", "--file", "/nowhere/acl", "--topic", "a", "--action", "publish"), "/nowhere/acl"),
    (("check", "-c", "/nowhere/conf", "--topic", "a", "--action", "publish"), "/nowhere/conf"),
])
def test_wrong(options, says):
    done = run("acl", *options)
    assert done.returncode == 2 and says in done.stderr and done.stdout == ""


def test_wrong_file(broker):
    broker.write("acl", "topic read a\nnonsense\n")
    done = ask("-c", broker.path, user=None, client="c", topic="a", action="receive")
    assert done.returncode == 2 and f"{broker.dir}/acl:2: " in done.stderr
