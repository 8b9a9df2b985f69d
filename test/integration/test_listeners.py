"""Where the daemon listens, and what belongs to a listener: limits, mount points, Unix sockets, IPv6."""

import os
import stat

import pytest

import streams
from bramble import Client, Failed
from rawmqtt import Will, publish, subscribe
from streams import Closed

IPV6 = os.path.exists("/proc/net/if_inet6") and "lo" in open("/proc/net/if_inet6", encoding="ascii").read()
needs_ipv6 = pytest.mark.skipif(not IPV6, reason="this machine has no IPv6 on loopback")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may bind to an interface")


def test_unix_socket(start, tmp_path):
    broker = start(f"listener 0 {tmp_path}/sock\n")
    client = Client(streams.unix(tmp_path / "sock"))
    client.connect("c")
    client.subscribe(("t", 1))
    client.publish("t", "x")
    client.expect_message("t", "x")
    broker.stop()
    assert not (tmp_path / "sock").exists()


def test_unix_socket_left_over(start, tmp_path):
    """Of a daemon that was killed: taken over. Of one that lives, or no socket at all: left alone, with a message."""
    path = tmp_path / "sock"
    dead = start(f"listener 0 {path}\n")
    dead.process.kill()
    dead.process.wait()
    assert stat.S_ISSOCK(path.stat().st_mode)
    start(f"listener 0 {path}\n")
    with pytest.raises(Failed) as failed:
        start(f"listener 0 {path}\n")
    assert failed.value.status == 1 and str(path) in failed.value.text
    client = Client(streams.unix(path))
    client.connect("still the first")
    (tmp_path / "file").write_text("precious")
    with pytest.raises(Failed):
        start(f"listener 0 {tmp_path}/file\n")
    assert (tmp_path / "file").read_text() == "precious"


@needs_ipv6
def test_ipv6(start):
    broker = start("listener {tcp} ::1\n")
    client = broker.connect("c", options={"host": "::1"})
    client.ping()
    broker.wait_log("New connection from ::1:")
    with pytest.raises(ConnectionRefusedError):
        broker.stream("tcp", host="127.0.0.1")


@needs_ipv6
@needs_root
@pytest.mark.parametrize("domain,reachable,closed", [("ipv4", "127.0.0.1", "::1"), ("ipv6", "::1", "127.0.0.1")])
def test_socket_domain(start, domain, reachable, closed):
    """All addresses, but of loopback only."""
    broker = start(f"listener {{tcp}}\nbind_interface lo\nsocket_domain {domain}\n")
    broker.connect("c", options={"host": reachable})
    with pytest.raises(ConnectionRefusedError):
        broker.stream("tcp", host=closed)


@needs_ipv6
@needs_root
def test_both_families(start):
    broker = start("listener {tcp}\nbind_interface lo\n")
    for host in ("127.0.0.1", "::1"):
        broker.connect("c", options={"host": host})


@needs_root
def test_bind_interface(start):
    broker = start("listener {tcp} 127.0.0.1\nbind_interface lo\n")
    broker.connect("c")
    with pytest.raises(Failed) as failed:
        start("listener {tcp} 127.0.0.1\nbind_interface none0\n")
    assert "No such device" in failed.value.text


def test_many_listeners(start):
    names = [f"tcp{i}" for i in range(20)]
    broker = start("".join(f"listener {{{name}}} 127.0.0.1\n" for name in names))
    reader = broker.connect("reader", names[0])
    reader.subscribe(("t", 1))
    for name in names:
        broker.connect("writer", name).publish("t", name, 1)
        reader.expect_message("t", name)


def test_max_connections(anywhere):
    """One too many is closed; when one goes there is room again; each listener counts its own."""
    broker = anywhere.start("listener {tcp9} 127.0.0.1\nallow_anonymous true\n", suffix="max_connections 2\n")
    clients = [anywhere.connect(f"c{i}") for i in range(2)]
    with pytest.raises((Closed, OSError)):
        anywhere.connect("one too many")
    broker.wait_log("max_connections is reached")
    broker.connect("elsewhere", "tcp9").ping()
    clients[0].disconnect()
    anywhere.connect("room again").ping()
    clients[1].ping()


def test_global_max_connections(start):
    broker = start("global_max_connections 2\nlistener {tcp} 127.0.0.1\nlistener {tcp2} 127.0.0.1\n")
    first, second = broker.connect("a"), broker.connect("b", "tcp2")
    broker.client("tcp2").expect_closed()
    first.disconnect()
    broker.connect("c", "tcp2").ping()
    second.ping()


def test_global_max_clients(start):
    """Kept sessions count, too."""
    broker = start("global_max_clients 2\n")
    broker.connect("kept", clean=False).disconnect()
    client = broker.connect("a")
    broker.client().connect("b", expect=3)
    broker.connect("kept", clean=False).disconnect()  # is one of the two
    client.disconnect()
    broker.connect("b")


def test_max_qos(start):
    """What clients may publish; a subscription is granted no more; a PUBLISH above it is an error."""
    broker = start("listener {tcp} 127.0.0.1\nmax_qos 1\nlistener {tcp2} 127.0.0.1\n")
    reader, writer = broker.connect("reader"), broker.connect("writer", "tcp2")
    assert reader.subscribe(("t", 2)) == [1]
    writer.publish("t", "x", 2)
    reader.expect_message("t", "x", 1)
    reader.send(publish("t", "y", 2, mid=3))
    reader.expect_closed()


def test_mount_point(anywhere):
    """Clients of the listener see a part of the topics, and only that."""
    broker = anywhere.start("listener {tcp9} 127.0.0.1\nallow_anonymous true\n", suffix="mount_point house/\n")
    outside = broker.connect("outside", "tcp9")
    outside.subscribe(("#", 2))
    inside, other = anywhere.connect("inside", will=Will("will", b"w")), anywhere.connect("other")
    inside.subscribe(("#", 2), ("a/b", 1))
    for qos in (0, 1, 2):
        other.publish("a/b", f"{qos}", qos, retain=qos == 1)
        inside.expect_message("a/b", f"{qos}", qos)
        outside.expect_message("house/a/b", f"{qos}", qos)
    outside.publish("a/b", "not below the mount point", 1)
    outside.expect_message("a/b", "not below the mount point")
    outside.publish("house/x", "below", 1)
    outside.expect_message("house/x", "below")
    inside.expect_message("x", "below")
    other.subscribe(("a/+", 1))
    other.expect_message("a/b", "1", retain=True)
    inside.close()
    outside.expect_message("house/will", "w")


def test_mount_point_and_acl(start):
    """Rules are about the whole topic."""
    broker = start("acl_file {dir}/acl\nlistener {tcp} 127.0.0.1\nmount_point house/\n", files={
        "acl": "topic readwrite house/a\ntopic readwrite b\n"})
    client = broker.connect("c")
    client.subscribe(("#", 1))
    client.publish("b", "denied", 1)
    client.publish("a", "allowed", 1)
    client.expect_message("a", "allowed")
    client.expect_nothing()


def test_use_username_as_clientid(start):
    broker = start("listener {tcp} 127.0.0.1\nuse_username_as_clientid true\n")
    broker.client().connect("c", expect=5)
    client = broker.connect("whatever", user="me", password="x")
    broker.wait_log("as me ")
    broker.connect("another", user="me", password="x")
    client.expect_closed()


@pytest.mark.parametrize("sent", [publish("a/b/c/d", "x"), subscribe(1, ("a/b/c/d", 0))])
def test_max_topic_levels(start, sent):
    broker = start("max_topic_levels 3\n")
    client = broker.connect("c")
    assert client.subscribe("a/b/c", "+/+/#") == [0, 0]
    client.publish("a/b/c", "x")
    client.expect_message("a/b/c", "x")
    client.send(sent)
    client.expect_closed()
    broker.wait_log("levels")
