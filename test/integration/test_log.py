"""Where the log goes, what is in it, and that no destination ever holds the broker."""

import fcntl
import os
import re
import select
import socket
import time

import pytest

from bramble import Failed
from rawmqtt import publish

TALK = "log_type all\n"


def test_stderr_has_times(start):
    broker = start()
    broker.wait_log(r"(?m)^\d{10}: bramble version \S+ running\.$")


def test_timestamps(start):
    broker = start("log_timestamp_format %Y-%m-%dT%H:%M:%S\n")
    broker.wait_log(r"(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d: bramble version \S+ running\.$")
    broker = start("log_timestamp false\n")
    broker.wait_log(r"(?m)^bramble version \S+ running\.$")


def test_file_and_reopening(start):
    """logrotate: the file is moved away, SIGHUP makes a new one."""
    broker = start("log_dest file {dir}/log\n")
    broker.connect("early").disconnect()
    (broker.dir / "log").rename(broker.dir / "log.1")
    broker.reload()
    broker.connect("later").disconnect()
    broker.stop()
    old, new = (broker.dir / "log.1").read_text(), (broker.dir / "log").read_text()
    assert "early" in old + new  # what was still on its way at the change may be in the new one; nothing is lost
    assert "later" in new and "later" not in old
    assert broker.log == ""
    assert (broker.dir / "log").stat().st_mode & 0o007 == 0


def test_none(start):
    broker = start("log_dest none\n")
    broker.connect("c").disconnect()
    broker.stop()
    assert broker.log == ""


def test_several_destinations(start):
    broker = start("log_dest stderr\nlog_dest file {dir}/log\n")
    broker.connect("c").disconnect()
    broker.wait_log("Client c disconnected")
    broker.stop()
    assert (broker.dir / "log").read_text() == broker.log


def test_types(start):
    broker = start("log_type error\nlog_type subscribe\n")
    broker.connect("c").subscribe(("a/b", 1))
    broker.wait_log("c 1 a/b")
    assert len(broker.log.splitlines()) == 1
    broker = start("connection_messages false\n")
    broker.connect("c").disconnect()
    broker.stop()
    assert "c" not in re.findall(r"Client (\w+)", broker.log)


def test_unwritable_file_stops_the_start(start):
    with pytest.raises(Failed) as failed:
        start("log_dest file {dir}/none/log\n")
    assert "none/log: No such file" in failed.value.text


def chatter(broker):
    """Much more log than any pipe holds, from a client that does not wait for it."""
    client = broker.connect("c" * 1000)
    for _ in range(20):
        client.send(*(publish("t/" + "x" * 500, "denied") for _ in range(50)))
        client.ping()
    return client


def test_fifo_that_nobody_reads(start, tmp_path):
    """The broker goes on; the losses are said to who reads at last."""
    os.mkfifo(tmp_path / "fifo")
    broker = start(TALK + f"acl_file {{dir}}/acl\nlog_dest file {tmp_path}/fifo\n", files={"acl": "topic readwrite x\n"})
    chatter(broker)
    with open(tmp_path / "fifo", "rb", buffering=0) as fifo:
        os.set_blocking(fifo.fileno(), False)
        text = read_until(fifo, rb"bramble version \S+ running")
        chatter(broker)
        text += read_until(fifo, rb"\d+ log lines? lost")
    assert len(text) > 4096


def read_until(fifo, pattern):
    text = b""
    while not re.search(pattern, text):
        assert select.select([fifo], [], [], 20)[0], f"{pattern} did not come; the end is {text[-500:]!r}"
        text += fifo.read(65536) or b""
    return text


def test_stderr_that_nobody_reads(start):
    """A pipe, full: whoever started the daemon does not look any more."""
    end, ours = os.pipe()
    fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, 4096)
    try:
        broker = start(TALK + "acl_file {dir}/acl\n", stderr=ours, files={"acl": "topic readwrite ping\n"})
        os.close(ours)
        ours = -1
        chatter(broker).publish("ping", "x", 1)
        broker.stop()
    finally:
        os.close(end)
        if ours >= 0:
            os.close(ours)


def test_closed_stderr(start):
    """Nobody there at all (EPIPE)."""
    end, ours = os.pipe()
    broker = start(TALK, stderr=ours)
    os.close(ours)
    os.close(end)
    client = broker.connect("c")
    client.publish("t", "x", 1)
    broker.reload()
    client.ping()


def test_client_cannot_forge_lines(start):
    broker = start()
    client = broker.client()
    client.connect("evil\n1700000000: forged\x1b[2J")
    client.disconnect()
    broker.wait_log("evil")
    broker.stop()
    assert "\x1b" not in broker.log
    assert not re.search(r"(?m)^1700000000: forged", broker.log)


def test_topic_destination(start):
    """log_dest topic: lines below $SYS/broker/log, one letter for each type."""
    broker = start("log_dest topic\nlog_type all\n")
    reader = broker.connect("reader")
    reader.subscribe("$SYS/broker/log/#")
    client = broker.connect("chatty")
    client.subscribe(("a/b", 1))
    wanted = {("N", "as chatty "), ("M/subscribe", "chatty 1 a/b")}
    while wanted:
        got = reader.receive()
        kind, text = got.topic.removeprefix("$SYS/broker/log/"), got.payload.decode()
        assert re.match(r"\d{10}: ", text)
        wanted -= {(k, t) for k, t in wanted if k == kind and t in text}
    broker.reload()  # its lines come from another thread
    while "Reloaded" not in reader.receive().payload.decode():
        pass


def test_refused_strangers_do_not_fill_it(start):
    """Two thousand refused logins: at most a line a second of their address, behind five at once, and how many were left out.
    Who is in, and who comes from elsewhere, is still heard of."""
    broker = start("listener {tcp} 127.0.0.1\nallow_anonymous false\npassword_file {dir}/passwd\nlog_strangers_rate 4\n",
                   files={"passwd": "one:secret"})
    began = time.monotonic()
    for _ in range(2000):
        broker.client().connect("stranger", expect=5)
    most = 6 + time.monotonic() - began
    inside = broker.connect("inside", user="one", password="secret")
    with socket.create_connection(("127.0.0.1", broker.ports["tcp"]), source_address=("127.0.0.2", 0)) as other:
        other.sendall(b"\xc0\x00")
        assert other.recv(1) == b""
    inside.disconnect()
    broker.wait_log(r"New client connected from \S+ as inside ")
    broker.wait_log(r"Client inside disconnected\.")
    broker.wait_log(r"Client 127\.0\.0\.2 \[127\.0\.0\.2:\d+\] disconnected: protocol error")
    assert "more lines about connections" in broker.log or most > 4000
    broker.stop()  # which says what was not said yet
    written = len(re.findall(r"(?m)New connection from 127\.0\.0\.1:|Client stranger \S+ refused: ", broker.log))
    assert 5 <= written <= most
    assert written + sum(map(int, re.findall(r"(\d+) more lines about connections", broker.log))) == 2 * 2000 + 1  # and inside


def test_strangers_without_a_limit(start):
    broker = start("log_strangers_rate 4\n")
    broker.configure("log_strangers_rate 0\n")
    broker.reload()
    for _ in range(200):
        broker.connect("c").disconnect()
    broker.wait_log(r"New connection from ", 200)
