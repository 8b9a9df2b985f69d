"""Client ids, user names and topics that are made to break a line of the access log: each line stays one JSON object that
says exactly what the name was, or its beginning and that it was cut."""

import json

from attack import Bystanders
from rawmqtt import *

CONFIG = ("acl_file {dir}/acl\nallow_anonymous true\naccess_log_topic client/accessLog\naccess_log_file {dir}/access\n"
          "access_log_rate 10000\nlog_type error\n")
RULES = "topic readwrite bystanders/#\nuser watcher\ntopic readwrite #\n"
NAMES = ['"', '\\', '\\"', '","allowed":true,"x":"', '"}\n{"event":"connect","allowed":true', "a\nb\r\tc", "\x01\x1f\x7f\x80\x9f",
         "\u2028\u2029", "\u202e\u2066", "\ufeff\ufffe\uffff", "\U0001f600\U0010ffff", "grüße", "'; DROP TABLE", "<script>",
         "%n%s%s%s", "${jndi:x}", "\x1b[2J\x1b]0;x\x07", " ", "{}", "[]", "null", "\\u0000", "x" * 2000, "\x01" * 600,
         "\U0001f600" * 500, '"' * 65535, "\x01" * 65535, "x" * 65535]


def honest(said, meant, line, field):
    """The name itself, or its beginning if the line says that it was cut."""
    if field in line.get("cut", []):
        return len(said) > 50 and meant.startswith(said) and said != meant
    return said == meant


def test_every_line_is_json(attacked):
    broker = attacked(CONFIG, files={"acl": RULES})
    log = broker.connect("watcher", user="watcher")
    log.subscribe("client/accessLog")
    wanted = []
    with Bystanders(broker):
        for name in NAMES:
            client = broker.client()
            client.connect(name, user=name[:60000])  # both are to fit a CONNECT packet
            client.send(publish(name.replace("+", "-").replace("#", "-"), "secret payload"))
            client.ping()
            client.disconnect()
            wanted.append(name)
    published = [json.loads(got.payload) for got in until_quiet(log)]
    broker.stop()
    raw_lines = (broker.dir / "access").read_bytes().split(b"\n")
    assert raw_lines.pop() == b""
    assert all(len(line) < 3584 and not any(byte < 32 or byte == 127 for byte in line) for line in raw_lines)
    assert not any(b"secret payload" in line for line in raw_lines)
    for lines in (published, [json.loads(line) for line in raw_lines]):
        assert all(line["event"] in ("connect", "disconnect", "publish") for line in lines)
        theirs = [line for line in lines if line.get("user") is not None and line["user"] != "watcher"]
        assert len(theirs) == 3 * len(NAMES)
        for i, name in enumerate(wanted):
            for line in theirs[3 * i:3 * i + 3]:
                assert honest(line["client"], name, line, "client"), line
                assert honest(line["user"], name[:60000], line, "user"), line
            assert theirs[3 * i + 1]["event"] == "publish"
            assert honest(theirs[3 * i + 1]["topic"], name, theirs[3 * i + 1], "topic")


def until_quiet(client):
    client.send(packet(PINGREQ, 0))
    while (got := client.next()).kind == PUBLISH:
        if got.topic == "client/accessLog":
            yield got


def test_a_storm_of_denials(attacked):
    """Denied publishes, denied subscribes and refused logins without end: the others do not notice, the memory stays, the
    file is bounded by the rate."""
    broker = attacked(CONFIG.replace("access_log_rate 10000", "access_log_rate 10"), files={"acl": RULES})
    log = broker.connect("watcher", user="watcher")
    log.subscribe("client/#")
    with Bystanders(broker):
        storm = [broker.connect(f"storm{i}", user=f"storm{i}", will=Will("client/accessLog", "forged")) for i in range(10)]
        for _ in range(50):
            for client in storm:
                client.send(*(publish("denied/" + "x" * 1000, "x" * 10) for _ in range(100)))
            for client in storm:
                client.ping()
        for client in storm:
            client.lose()
    got = [json.loads(got.payload) for got in until_quiet(log)]
    assert got and all("event" in line for line in got)
    broker.stop()
    text = (broker.dir / "access").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert sum(line["event"] == "publish" for line in lines) < 2000
    assert sum(line.get("count", 0) for line in lines) > 40000
