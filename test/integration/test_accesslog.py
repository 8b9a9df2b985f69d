"""The access log of a daemon: each event with its fields, where it goes, who may read it, and what it costs nobody.

(What a line looks like, and the rate, are tested in test/unit/broker; hostile names in test/hostile.)"""

import json
import re
import time

import pytest

from bramble import LISTENER, TIMEOUT, Failed
from rawmqtt import FAILURE, NOT_AUTHORISED, PUBLISH, Will, packet

RULES = """
user admin
topic readwrite #
user sensor
topic write in/#
"""
CONFIG = "acl_file {dir}/acl\npassword_file {dir}/passwd\naccess_log_topic client/accessLog\naccess_log_file {dir}/access\n"
FILES = {"acl": RULES, "passwd": "admin:a-secret sensor:s-secret"}
OTHERS = {"acl": "topic readwrite #\n"}


def written(broker, name="access"):
    """All lines of the file, each of which is one JSON object."""
    path = broker.dir / name
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text[:text.rfind("\n") + 1].splitlines()]


def wait_written(broker, wanted, name="access"):
    """The first line that has these fields."""
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        for line in written(broker, name):
            if wanted.items() <= line.items():
                return line
        time.sleep(0.01)
    raise AssertionError(f"no line with {wanted} in {written(broker, name)}")


def admin(broker, client_id="watcher", **fields):
    return broker.connect(client_id, user="admin", password="a-secret", **fields)


def watcher(broker, port="tcp"):
    client = admin(broker, port=port)
    assert client.subscribe("client/accessLog") == [0]
    return client


def heard(log, /, **wanted):
    """The next line on the topic that has these fields."""
    while True:
        got = log.receive()
        assert (got.topic, got.qos, got.retain) == ("client/accessLog", 0, False)
        line = json.loads(got.payload)
        if wanted.items() <= line.items():
            return line


def sensor(broker, client_id="s1", **fields):
    return broker.connect(client_id, user="sensor", password="s-secret", **fields)


def test_each_event(start):
    broker = start(CONFIG + LISTENER["tcp"] + LISTENER["tls"], files=FILES)
    log = watcher(broker)
    client = sensor(broker, port="tls")
    line = heard(log, event="connect", client="s1")
    assert line["allowed"] is True
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    assert (line["user"], line["address"], line["listener"]) == ("sensor", "127.0.0.1", f"{broker.ports['tls']} 127.0.0.1")
    assert line["tls"] == "TLSv1.3" and 0 < line["port"] < 65536

    client.publish("in/x", "allowed", 1)
    client.publish("out/x", "denied", 1)
    line = heard(log, client="s1")
    assert (line["event"], line["allowed"], line["topic"], line["qos"]) == ("publish", False, "out/x", 1)
    assert line["reason"]

    client.disconnect()
    line = heard(log, client="s1")
    assert (line["event"], line["allowed"], line["reason"]) == ("disconnect", True, "it said DISCONNECT")

    broker.client().connect("s2", user="sensor", password="wrong-one", expect=NOT_AUTHORISED)
    line = heard(log, client="s2")
    assert (line["event"], line["allowed"]) == ("connect", False)
    assert "tls" not in line

    log.close()
    broker.stop()
    lines = written(broker)
    assert [(one["event"], one.get("client")) for one in lines if one.get("client") != "watcher"] == [
        ("connect", "s1"), ("publish", "s1"), ("disconnect", "s1"), ("connect", "s2")]
    text = (broker.dir / "access").read_text()
    for secret in ("a-secret", "s-secret", "wrong-one", "denied", (broker.dir / "passwd").read_text().split(":")[1][:20]):
        assert secret not in text
    assert (broker.dir / "access").stat().st_mode & 0o137 == 0


def test_denied_subscribe(start):
    broker = start(CONFIG, files={**FILES, "acl": RULES + "topic subscribe in/#\n"})
    log = watcher(broker)
    assert sensor(broker).subscribe(("#", 1)) == [FAILURE]
    line = heard(log, event="subscribe")
    assert (line["allowed"], line["topic"], line["qos"], line["client"]) == (False, "#", 1, "s1")


def test_every_way_to_leave(start):
    broker = start(CONFIG, files=FILES)
    log = watcher(broker)

    def ends(reason):
        line = heard(log, event="disconnect")
        assert line["allowed"] is False and line["client"] == "s1" and line["reason"] == reason

    sensor(broker).lose()
    ends("it closed its connection")
    client = sensor(broker)
    client.send(packet(2, 0))
    ends("protocol error in CONNACK: a client may not send this")
    silent = sensor(broker, keepalive=1)
    ends("it exceeded its keep alive of 1 seconds")
    silent.expect_closed()
    first, again = sensor(broker), sensor(broker)
    ends("the same client id connected again")
    first.expect_closed()
    broker.write("passwd", "sensor:another")
    broker.reload()
    ends("its user was removed or its password changed")
    again.expect_closed()
    broker.stop()
    last = written(broker)[-1]
    assert (last["client"], last["event"], last["reason"]) == ("watcher", "disconnect", "the broker stops")


def test_logrotate(start):
    broker = start("access_log_file {dir}/access\n")
    broker.connect("early").disconnect()
    wait_written(broker, {"client": "early", "event": "disconnect"})
    (broker.dir / "access").rename(broker.dir / "access.1")
    broker.reload()
    broker.connect("later").disconnect()
    wait_written(broker, {"client": "later", "event": "disconnect"})
    assert [line["client"] for line in written(broker, "access.1")] == ["early"] * 2
    assert [line["client"] for line in written(broker)] == ["later"] * 2


def test_options_at_a_reload(start):
    broker = start("")
    broker.connect("before").disconnect()
    broker.configure("access_log_file {dir}/access\n")
    broker.reload()
    broker.connect("during").disconnect()
    wait_written(broker, {"client": "during", "event": "disconnect"})
    broker.configure("")
    broker.reload()
    broker.connect("after").disconnect()
    broker.stop()
    assert {line["client"] for line in written(broker)} == {"during"}


def test_a_file_that_cannot_be_opened(start):
    with pytest.raises(Failed) as failed:
        start("access_log_file {dir}/none/access\n")
    assert re.search(r"bramble.conf:1: Error: access_log_file: .*none/access: No such file", failed.value.text)
    broker = start("")
    broker.configure("access_log_file {dir}/none/access\n")
    broker.reload()
    broker.wait_log(r"bramble.conf:1: Error: access_log_file: .*none/access: No such file.*; the log goes on as before")


def test_a_full_disk(start):
    """Said once in the log; the topic goes on, and so do the clients."""
    broker = start("acl_file {dir}/acl\naccess_log_topic client/accessLog\naccess_log_file /dev/full\n", files=OTHERS)
    log = broker.connect("watcher")
    log.subscribe("client/accessLog")
    for i in range(20):
        broker.connect(f"c{i}").disconnect()
        heard(log, event="disconnect", client=f"c{i}")
    broker.wait_log("Cannot write the log to /dev/full: No space left on device")
    log.ping()
    broker.stop()
    assert broker.log.count("/dev/full") == 1


def test_journal_without_a_journal(start):
    broker = start("access_log_journal true\n")
    broker.connect("c").disconnect()
    broker.connect("d").ping()


# ---- who may read it, and that nobody writes it

def all_of(client):
    """What has come, up to the answer to a PINGREQ."""
    client.send(packet(12, 0))
    while (got := client.next()).kind == PUBLISH:
        yield got.topic


def test_without_an_acl_file_nobody_reads_it(start):
    broker = start("access_log_topic client/accessLog\naccess_log_file {dir}/access\n")
    spy = broker.connect("spy")
    assert spy.subscribe("client/accessLog", "#", "client/#", "+/accessLog") == [FAILURE, 0, 0, 0]
    broker.connect("c").publish("open", "x", 1)
    wait_written(broker, {"client": "c", "event": "connect"})
    assert set(all_of(spy)) == {"open"}


def test_the_acl_file_says_who_reads_it(start):
    broker = start(CONFIG, files={**FILES, "acl": RULES + "topic read client/other\n"})
    spy, log = sensor(broker, "spy"), watcher(broker)
    assert spy.subscribe("client/accessLog", "#", "client/#") == [FAILURE, 0, 0]
    everything = admin(broker, "all")
    everything.subscribe("#")
    heard(log, event="connect", client="all")
    admin(broker, "c").disconnect()
    heard(log, event="disconnect", client="c")
    assert list(all_of(spy)) == []
    assert "client/accessLog" in set(all_of(everything))  # "readwrite #" is what it says


def test_the_right_may_go(start):
    broker = start(CONFIG, files=FILES)
    log = watcher(broker)
    admin(broker, "c").disconnect()
    heard(log, event="disconnect", client="c")
    list(all_of(log))
    broker.write("acl", "user admin\ntopic read other/#\n")
    broker.reload()
    admin(broker, "d").disconnect()
    wait_written(broker, {"event": "disconnect", "client": "d"})
    assert list(all_of(log)) == []


@pytest.mark.parametrize("acl", [True, False])
def test_nobody_publishes_to_it(start, acl):
    """Whatever the acl_file says: not by PUBLISH, not retained, not as a will."""
    broker = start(("acl_file {dir}/acl\n" if acl else "") + "access_log_topic client/accessLog\naccess_log_file {dir}/access\n",
                   files=OTHERS)
    log = broker.connect("watcher")
    log.subscribe("client/#")
    for qos in (0, 1, 2):
        broker.connect("forger").publish("client/accessLog", '{"forged":1}', qos, retain=qos == 1)
    broker.connect("dying", will=Will("client/accessLog", '{"forged":1}', 1)).lose()
    broker.connect("last").publish("client/end", "x", 1)
    while (got := log.receive()).topic != "client/end":
        assert acl and b"forged" not in got.payload, str(got)
    late = broker.connect("late")
    late.subscribe("client/#")
    late.ping()


def test_another_mount_point_is_another_topic(start):
    broker = start("acl_file {dir}/acl\naccess_log_topic client/accessLog\n" + LISTENER["tcp"] + "mount_point site/\n",
                   files=OTHERS)
    client = broker.connect("c")
    assert client.subscribe("client/accessLog", "#") == [0, 0]
    client.publish("client/accessLog", "a topic like others", 1)
    assert [got for got in all_of(client)] == ["client/accessLog"]


def test_a_flood_is_cut_and_counted(start):
    """One client floods; the log stays small, says how much it left out, and has the others."""
    broker = start(CONFIG + "access_log_rate 20\n", files=FILES)
    log = watcher(broker)
    flood = sensor(broker, "flood")
    for _ in range(20):
        for _ in range(100):
            flood.publish("denied", "x")
        flood.ping()
    admin(broker, "other").disconnect()
    heard(log, event="disconnect", client="other")
    left = heard(log, event="left_out")
    assert left["count"] > 1000
    flood.disconnect()
    log.close()
    broker.stop()
    lines = written(broker)
    assert sum(line.get("client") == "flood" for line in lines) < 500
    assert sum(line.get("client") == "flood" for line in lines) + sum(line.get("count", 0) for line in lines) >= 2001
