"""Limits: sizes, slow readers, floods, a thousand clients; and that what was taken is given back."""

import resource
import subprocess
import time

import pytest

import rawmqtt
import streams
from bramble import LISTENER, SANITIZED, Client
from rawmqtt import CONNACK, PUBACK, Will, connect, length, packet, publish, string

MB = 1 << 20


def test_message_size_limit(start):
    """Larger payloads are acknowledged and dropped; it is said."""
    broker = start("message_size_limit 1000\n")
    client = broker.connect("c")
    client.subscribe(("t", 2))
    for qos in (0, 1, 2):
        client.publish("t", "x" * 1001, qos)
    broker.wait_log("Dropped a PUBLISH of 1001 bytes from c on 't': message_size_limit", 3)
    client.publish("t", "x" * 1000)
    client.expect_message("t", "x" * 1000)


def test_max_packet_size(anywhere):
    """One byte more and the connection is closed, before the packet has come."""
    anywhere.start("max_packet_size 2000\nallow_anonymous true\n")
    client = anywhere.connect("c")
    client.subscribe("t")
    fits = publish("t", "x" * (2000 - 3 - 3))
    assert len(fits) == 2000
    client.send(fits)
    client.expect_message("t", "x" * 1994)
    client.send(publish("t", "x" * 1995)[:3])  # its length is enough
    client.expect_closed()
    anywhere.broker.wait_log("larger than allowed here.*limit 2000")


def test_default_packet_limit(start):
    broker = start()
    client = broker.connect("c")
    client.send(b"\x30" + length(2_000_000))
    client.expect_closed()


@pytest.mark.parametrize("size", [MB, 20 * MB])
def test_big_messages(anywhere, size):
    """To several readers, one of them slow to begin."""
    anywhere.start("max_packet_size 100000000\nallow_anonymous true\n")
    readers = [anywhere.connect(f"r{i}") for i in range(3)]
    for i, reader in enumerate(readers):
        reader.subscribe(("t", i))
    writer = anywhere.connect("writer")
    payload = bytes(range(251)) * (size // 251)
    writer.publish("t", payload, 1)
    for reader in readers:
        reader.expect_message("t", payload)


def test_largest_packet_of_the_standard(start):
    """268435455 bytes may be announced; what is announced is not what is allocated for a stranger."""
    broker = start("max_packet_size 268435460\n")
    client = broker.client()
    client.send(b"\x10" + length(268435455) + connect("c")[2:])
    client.expect_closed()
    watcher = broker.connect("watcher")
    client = broker.connect("c")
    before = broker.resident()
    client.send(b"\x30" + length(268435455) + string("t"))
    watcher.ping()
    if not SANITIZED:
        assert broker.resident() - before < 20 * MB  # memory is touched as bytes come
    client.close()
    watcher.ping()


def test_queued_bytes_of_answers_are_bounded(start):
    """A client that asks and never reads: PINGREQ, SUBSCRIBE, PUBLISH QoS 1 without end."""
    broker = start()
    client = Client(broker.stream(receive_buffer=4096))
    client.connect("deaf")
    client.stream.sock.settimeout(1)
    before = broker.resident()
    chunk = packet(rawmqtt.PINGREQ, 0) * 20000
    try:
        for _ in range(500):  # 20 MB
            client.send(chunk)
    except (TimeoutError, ConnectionError):
        pass  # it is no longer read, or closed
    broker.connect("other").ping()
    if not SANITIZED:
        assert broker.resident() - before < 20 * MB
    client.reset()


def read_sys(client, name):
    """Follows a number of $SYS; gives its values as they come."""
    client.subscribe("$SYS/broker/" + name)
    while True:
        yield int(client.receive().payload)


@pytest.mark.parametrize("qos", [0, 1])
def test_slow_reader(start, qos):
    """It reads nothing while 100 MB are published for it: bounded memory, others get all, one line in the log."""
    broker = start("max_queued_messages 100\nsys_interval 1\n")
    slow = Client(broker.stream(receive_buffer=4096))
    slow.connect("slow")
    slow.subscribe(("t", qos))
    fast, writer = broker.connect("fast"), broker.connect("writer")
    fast.subscribe(("t", qos))
    before = broker.resident()
    payload = "x" * 50_000
    for i in range(2000 if not SANITIZED else 500):
        writer.send(publish("t", f"{i:06}{payload}", qos, mid=1))
        fast.expect_message("t", f"{i:06}{payload}")
        if qos:
            writer.expect(PUBACK)
    if not SANITIZED:
        assert broker.resident() - before < 25 * MB  # 100 messages of 50 kB wait, and some are in buffers
    broker.wait_log("Outgoing messages are being dropped for client slow")
    for dropped in read_sys(writer, "publish/messages/dropped"):
        if dropped > 100:
            break
    got = [slow.receive() for _ in range(100)]  # what waited for it comes, in order
    numbers = [int(p.payload[:6]) for p in got]
    assert numbers == sorted(set(numbers))
    assert broker.log.count("being dropped for client slow") == 1
    assert "client fast" not in broker.log


def test_memory_of_a_storm_is_given_back(start):
    """10000 messages wait for a client that is away; it comes and fetches them."""
    broker = start("max_queued_messages 0\nmax_inflight_messages 1000\n")
    away = broker.connect("away", clean=False)
    away.subscribe(("t", 1))
    away.disconnect()
    writer = broker.connect("writer")
    before = broker.resident()
    count = 10000 if not SANITIZED else 1000
    for i in range(0, count, 500):
        writer.send(*(publish("t", "x" * 3000, 1, mid=1 + j) for j in range(500)))
        for _ in range(500):
            writer.expect(PUBACK)
    full = broker.resident()
    away = broker.client()
    assert away.connect("away", clean=False)
    for _ in range(count):
        away.receive()
    away.ping()
    if not SANITIZED:
        assert full - before > 20 * MB
        assert broker.resident() - before < (full - before) / 2


def test_memory_of_many_clients_is_given_back(start):
    """They have gone but for the last, whose memory lies above that of all others."""
    broker = start("sys_interval 0\n")
    broker.connect("first")
    before = broker.resident()
    many = [broker.connect(f"c{i}") for i in range(1000)]
    last = broker.connect("last")
    full = broker.resident()
    for client in many:
        client.disconnect()
    end = time.monotonic() + streams.TIMEOUT
    assert SANITIZED or full - before > MB
    while not SANITIZED and broker.resident() - before > (full - before) / 3:  # a sanitizer keeps memory
        assert time.monotonic() < end, f"{before} bytes, {full} with all, {broker.resident()} without"
        time.sleep(0.1)
    last.ping()


GARBAGE = [b"\x10\x0c\0\4MQTT\4\2\0\x3c\0\0", b"\x00" * 1000, b"\xff" * 1000, b"GET / HTTP/1.1\r\n\r\n", b"\x16\3\1\0\xa5\1" * 30,
           b"\x10\xff\xff\xff\x7f" + b"x" * 5000, b"\x10", b""]


@pytest.mark.parametrize("port", ["tcp", "tls", "ws", "wss"])
def test_connect_flood_of_garbage(start, port):
    """A thousand connections of noise; a client that was there before does not notice."""
    broker = start("listener {tcp9} 127.0.0.1\nallow_anonymous true\n" + LISTENER[port])
    good = broker.connect("good", "tcp9")
    good.subscribe("t")
    before = broker.descriptors()
    noise = [streams.tcp(broker.ports[port]) for _ in range(100)]
    for i in range(1000):
        stream = noise[i % 100]
        try:
            stream.send(GARBAGE[i % len(GARBAGE)] + bytes([i & 255]) * (i % 700))
        except ConnectionError:
            pass
        (stream.close if i % 2 else stream.reset)()
        noise[i % 100] = streams.tcp(broker.ports[port])
        if i % 50 == 0:
            good.publish("t", str(i))
            good.expect_message("t", str(i))
    for stream in noise:
        stream.reset()
    broker.connect("after", port).disconnect()
    for i in range(200):  # connections end when the loop hears of it: each ping is at least one turn
        good.ping()
        if broker.descriptors() <= before:
            break
    assert broker.descriptors() <= before


def test_a_thousand_clients(start):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2500:
        pytest.skip("this needs 2500 descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2500), hard))
    broker = start("connection_messages false\nsys_interval 1\n")
    before = broker.resident()
    clients = []
    for i in range(1000):
        client = broker.client()
        client.send(connect(f"client{i}", keepalive=0), rawmqtt.subscribe(1, ("all", 1), (f"one/{i}", 0)))
        clients.append(client)
    for client in clients:
        client.expect(CONNACK)
        client.expect(rawmqtt.SUBACK, 1)
    if not SANITIZED:
        assert (broker.resident() - before) / 1000 < 8192
    clients[0].send(publish("all", "to all", 1, mid=9))
    for client in clients[1:]:
        client.expect_message("all", "to all")
    clients[1].send(*(publish(f"one/{i}", str(i)) for i in range(2, 1000)))
    for i, client in enumerate(clients[2:], 2):
        client.expect_message(f"one/{i}", str(i))
    for connected in read_sys(broker.connect("asks"), "clients/connected"):
        if connected == 1001:
            break
    for client in clients:
        client.reset()
    for connected in read_sys(broker.connect("asks"), "clients/connected"):
        if connected == 1:
            break


def test_one_client_does_not_hold_up_others(start):
    """A flood of small messages from one; the answer to another comes meanwhile."""
    broker = start()
    flood, other = broker.connect("flood"), broker.connect("other")
    flood.subscribe(("t", 0))
    flood.stream.sock.setblocking(False)
    data = publish("t", "x" * 20) * 5000
    sent = 0
    for _ in range(50):
        try:
            sent += flood.stream.sock.send(data[sent % len(data):])
        except BlockingIOError:
            pass
        try:
            flood.stream.sock.recv(MB)
        except BlockingIOError:
            pass
        other.ping()
    assert sent > 0


def test_more_connections_than_descriptors(start):
    """It runs out of descriptors: accepting rests, those who are connected go on, and later it goes on."""
    broker = start()
    good = broker.connect("good")
    subprocess.run(["prlimit", "--pid", str(broker.pid), f"--nofile={broker.descriptors() + 20}:"], check=True)
    many = [broker.stream() for _ in range(60)]  # the kernel's queue takes those that are not accepted
    broker.wait_log("Cannot accept connections: Too many open files")
    good.ping()
    for stream in many:
        stream.close()
    broker.connect("later").ping()
    good.ping()


def test_retain_available(start):
    broker = start("retain_available false\n")
    client = broker.connect("c")
    client.publish("t", "x")
    client.send(publish("t", "x", retain=True))
    client.expect_closed()
    broker.client().connect("c", will=Will("t", retain=True), expect=5)


@pytest.mark.parametrize("sent", [0, 1])
def test_upgrade_outgoing_qos(start, sent):
    broker = start("upgrade_outgoing_qos true\n")
    reader, writer = broker.connect("reader"), broker.connect("writer")
    reader.subscribe(("t", 2))
    writer.publish("t", "x", sent)
    reader.expect_message("t", "x", 2)
