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


LIMITS = """qos 1
address 127.0.0.0/8
address unix
clientid c*
retain no
topic write t
topic subscribe s
user free
tls optional
user bound
tls required
qos 0
clientid %u
"""
LIMITED = [  # user, client id, options, what it says
    (None, "c", "--topic t --action publish --qos 1", "allowed by {acl}:6"),
    (None, "c", "--topic t --action publish --qos 2", "denied by {acl}:1: its QoS is higher than the ACL allows"),
    (None, "c", "--topic t --action publish --retain", "denied by {acl}:5: the ACL allows it no retained messages"),
    (None, "c", "--topic s --action subscribe --qos 1", "allowed by {acl}:7"),
    (None, "c", "--topic s --action subscribe --qos 2", "allowed by {acl}:7 (at QoS 1 by {acl}:1)"),
    (None, "c", "--action connect --address 127.1.2.3", "allowed by {acl}:4"),
    (None, "c", "--action connect --address unix", "allowed by {acl}:4"),
    (None, "c", "--action connect", "denied by {acl}:2: the ACL does not admit it from its address"),
    (None, "c", "--action connect --address ::1", "denied by {acl}:2: the ACL does not admit it from its address"),
    (None, "x", "--action connect --address ::ffff:127.0.0.1", "denied by {acl}:4: the ACL does not admit it with its client id"),
    ("bound", "bound", "--action connect --address 127.0.0.1", "denied by {acl}:11: the ACL admits it with TLS only"),
    ("bound", "bound", "--action connect --address 127.0.0.1 --tls", "allowed by {acl}:13"),
    ("bound", "c", "--action connect --address 127.0.0.1 --tls", "denied by {acl}:13: the ACL does not admit it with its client id"),
    ("bound", "c", "--topic t --action publish --qos 1", "denied by {acl}:12: its QoS is higher than the ACL allows"),
]


@pytest.mark.parametrize("user, client, options, says", LIMITED)
def test_limits(tmp_path, user, client, options, says):
    acl = tmp_path / "acl"
    acl.write_text(LIMITS)
    done = run("acl", "check", "--file", acl, *(["--user", user] if user else []), "--client", client, *options.split())
    assert done.stdout == says.format(acl=acl) + "\n" and done.stderr == ""
    assert done.returncode == (0 if says.startswith("allowed") else 1)


def test_nothing_limits_connecting(tmp_path):
    (tmp_path / "acl").write_text("topic read a\n")
    done = run("acl", "check", "--file", tmp_path / "acl", "--action", "connect")
    assert (done.returncode, done.stdout) == (0, "allowed: no limit concerns this client\n")


def test_refuse_unreadable(start):
    """Known from the configuration."""
    broker = start("acl_file {dir}/acl\nacl_refuse_unreadable true\n", files={"acl": "topic read a\n"})
    question = {"user": None, "client": "c", "topic": "b", "action": "subscribe"}
    assert ask("-c", broker.path, **question).stdout == "denied: nothing that it matches may be read\n"
    assert ask("--file", broker.dir / "acl", **question).returncode == 0


@pytest.mark.parametrize("topic, action, allowed", [
    ("log", "publish", False), ("log", "subscribe", True), ("log", "receive", True), ("other", "publish", True),
])
def test_topic_of_the_access_log(start, topic, action, allowed):
    """Nobody publishes there, and without an acl_file nobody reads it."""
    says = (0, "allowed") if allowed else (1, "denied: it is the topic of the access log\n")
    broker = start("acl_file {dir}/acl\naccess_log_topic log\n", files={"acl": "topic readwrite #\n", "open": "access_log_topic log\n"})
    question = {"user": None, "client": "c", "topic": topic, "action": action}
    done = ask("-c", broker.path, **question)
    assert done.returncode == says[0] and done.stdout.startswith(says[1])
    done = ask("-c", broker.dir / "open", **question)
    assert done.stdout.startswith("allowed" if topic == "other" else "denied: it is the topic of the access log")


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
    (("check", "--topic", "a", "--action", "read"), "not publish, subscribe, receive or connect: read"),
    (("check", "--topic", "#", "--action", "publish"), "not a topic name: #"),
    (("check", "--topic", "a/#/b", "--action", "subscribe"), "not a topic filter: a/#/b"),
    (("check", "--topic", "\udcff", "--action", "publish"), "the topic is not UTF-8"),
    (("check", "--topic", "a", "--action", "publish", "--qos", "3"), "not a QoS (0, 1 or 2): 3"),
    (("check", "--action", "connect", "--address", "x" * 48), "not an address: xxx"),
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
