"""Clients that send nothing wrong, or nothing that is wrong by itself: too slowly, too much, again and again, without
reading, without an end, all at once. The memory is bounded, the others go on, and the log says who and why.

Nothing here is a race against the clock: what a client does "slowly" it does with pauses of its own, and whatever the
broker does by the clock is waited for.
"""

import itertools
import random
import re
import threading
import time

import pytest

from attack import MB, Bystanders, Drain, Memory, crowd, deaf_client, fewer, push, quiet_send
from bramble import passwd
from rawmqtt import *
from streams import Closed


# ---- slow

def test_one_byte_at_a_time(attacked):
    """CONNECT in drops, from 200 at once: what takes longer than connect_timeout ends, and holds nearly nothing until
    then. (The drops come every 20 ms; the whole would take minutes.)"""
    broker = attacked("connect_timeout 1\n")
    with Bystanders(broker) as others:
        memory = Memory(broker)
        data = connect("drip", will=Will("w", b"x" * 3000))
        clients = [broker.client() for _ in range(200)]
        for i in itertools.count():
            for client in clients:
                quiet_send(client, data[i:i + 1])
            if len(re.findall("no CONNECT came in time", broker.log)) >= 200:
                break
            time.sleep(0.02)
            assert i < len(data) - 1, "it took the slow ones for clients"
        for client in clients:
            client.expect_closed()
            client.close()
        others.go_on()
        memory.check(peak=4 * MB)
    broker.wait_log(r"Client 127\.0\.0\.1 \[127\.0\.0\.1:\d+\] disconnected: no CONNECT came in time\.", 200)
    broker.connect("drip").ping()


def test_pieces_of_one_byte_are_packets_all_the_same(attacked):
    """Slow is not wrong: an honest client on a bad line."""
    broker = attacked()
    client = broker.client()
    data = connect("slow") + subscribe(1, ("t", 1)) + publish("t", "x", 2, mid=2) + ack(PUBREL, 2) + packet(PINGREQ, 0)
    for i in range(len(data)):
        client.send(data[i:i + 1])
    client.connack()
    kinds = [client.next().kind for _ in range(5)]
    assert sorted(kinds) == sorted([SUBACK, PUBREC, PUBLISH, PUBCOMP, PINGRESP])


def test_half_open_connections(attacked):
    """Thousands that say nothing: each costs little, all end, the descriptors come back."""
    n = crowd(fewer(4000, 4))
    broker = attacked("connect_timeout 2\n")
    before = broker.descriptors()
    with Bystanders(broker) as others:
        memory = Memory(broker)
        silent = [broker.stream() for _ in range(n)]
        others.go_on()
        memory.check(peak=n * 2048 + 2 * MB)
        for stream in silent:
            assert stream.recv(1) == b""
            stream.close()
        broker.wait_log("no CONNECT came in time", n)
        others.go_on()
        memory.check(peak=n * 2048 + 2 * MB)
    broker.connect("after").ping()
    assert broker.descriptors() <= before + 5


def test_thousands_of_large_connects(attacked):
    """Each announces all that a stranger may say, 128 KiB, and sends it but for the last byte. That would be 400 MB."""
    n = crowd(fewer(3000, 4))
    broker = attacked("connect_timeout 60\n")
    data = connect("large", will=Will("w", b"x" * 65000), user=b"u" * 64000)
    assert 128 * 1024 - 2100 < len(data) <= 128 * 1024
    with Bystanders(broker) as others:
        memory = Memory(broker)
        clients = [broker.client() for _ in range(n)]
        for client in clients:
            client.stream.sock.setblocking(False)
        for start in (0, 65536):  # as much as the sockets take; the broker reads meanwhile
            for client in clients:
                try:
                    client.stream.sock.send(data[start:start + 65536][:len(data) - 1 - start])
                except (BlockingIOError, ConnectionError):
                    pass
            others.go_on()
        broker.wait_log(rf"Client 127\.0\.0\.1 \[.*\] disconnected: too many large CONNECT packets come at once "
                        rf"\(this one has {len(data) - 4} bytes\)")
        others.go_on()
        memory.check(peak=8 * MB + n * 10240 + 4 * MB)
        broker.connect("small", will=Will("w", b"x" * 3000)).ping()
        for client in clients:
            client.reset()
        for i in range(1000):  # there is room again as soon as the broker has seen them go
            client = broker.client()
            try:
                client.send(data)
                client.connack()
                break
            except (Closed, ConnectionError):
                others.go_on()
        else:
            raise AssertionError("there is no room for a large CONNECT any more")


def test_logins_that_take_long(attacked):
    """Hundreds of logins wait for one thread that takes long for each. What is behind their CONNECT is not read; those
    that wait too long are told; who is connected notices nothing."""
    broker = attacked("password_file {dir}/passwd\nauth_timeout 2\nauth_threads 1\n", files={"passwd": "user:u"})
    passwd(broker.dir / "passwd", "slow", "s", "-H", "sha512-pbkdf2", "-I", str(fewer(400_000, 4)))  # some 0.2 s each
    broker.reload()
    with Bystanders(broker, user="user", password="u") as others:
        memory = Memory(broker)
        clients = [broker.client() for _ in range(300)]
        for i, client in enumerate(clients):
            quiet_send(client, connect(f"slow-{i}", user="slow", password="s" if i % 2 else "wrong"))
            push(client, publish("t", "x" * 10000) * 20, timeout=0.001)  # 200 KB that wait for the verdict
        others.go_on()
        broker.wait_log(r"Client slow-\d+ \[.*\] refused: its login has waited longer than auth_timeout\.", 200)
        memory.check(peak=300 * 64 * 1024)
        for client in clients:
            client.close()


def test_too_many_logins(attacked):
    """More than may wait: CONNACK 3 at once for the others, and a reason in the log."""
    n = crowd(1500)
    if n < 1500:
        raise AssertionError("this needs some 2000 descriptors: raise the limit (ulimit -Hn)")
    broker = attacked("password_file {dir}/passwd\nauth_threads 1\n", files={"passwd": "user:u"})
    passwd(broker.dir / "passwd", "slow", "s", "-H", "sha512-pbkdf2", "-I", "300000")  # a good part of a second each
    broker.reload()
    others = broker.connect("is there", user="user", password="u")
    others.subscribe("t")
    memory = Memory(broker)
    clients = [broker.client() for _ in range(n)]
    for i, client in enumerate(clients):
        client.send(connect(f"slow-{i}", user="slow", password="wrong", will=Will("w", b"x" * 1000)))
    broker.wait_log(r"Client slow-\d+ \[.*\] refused: too many logins are waiting\.", n - 1024 - 100)  # some were answered meanwhile
    refused = int(re.search(r"Client slow-(\d+) \[.*\] refused: too many logins", broker.log)[1])
    clients[refused].connack(UNAVAILABLE)
    others.publish("t", "goes on", 1)
    others.expect_message("t", "goes on")
    memory.check(peak=n * 8192 + 4 * MB)
    for client in clients:
        client.close()


def test_keep_alive_at_its_ends(attacked):
    """0 is none at all, 65535 is 27 hours: both are there when one that asked for a second is long gone."""
    broker = attacked()
    never, long, short = (broker.connect(f"keepalive-{k}", keepalive=k) for k in (0, 65535, 1))
    short.expect_closed()
    broker.wait_log(r"Client keepalive-1 \[.*\] disconnected: it exceeded its keep alive of 1 seconds\.")
    never.ping()
    long.ping()
    assert not re.search(r"keepalive-(0|65535) \[.*disconnected", broker.log)


def test_last_answer_is_not_taken(attacked):
    """A client that does not read and disconnects: it is not waited for without end."""
    broker = attacked()
    client = deaf_client(broker, "deaf")
    client.subscribe("t")
    writer = broker.connect("writer")
    for _ in range(100):
        writer.publish("t", "x" * 100_000, 1)
    quiet_send(client, packet(DISCONNECT, 0))
    broker.wait_log(r"Client deaf disconnected\.|Client deaf \[.*\] disconnected: it does not take its last answer\.")
    broker.wait_log(r"Client deaf \[.*\] disconnected: it does not take its last answer\.")
    client.close()


# ---- without reading

@pytest.mark.parametrize("qos", [0, 1, 2])
def test_readers_that_do_not_read(attacked, qos):
    """Ten of them, for 40 MB each. Messages are shared; what may wait for each is bounded; others get everything."""
    broker = attacked("max_queued_messages 100\n")
    with Bystanders(broker) as others:
        memory = Memory(broker)
        deaf = [deaf_client(broker, f"deaf-{i}") for i in range(10)]
        for client in deaf:
            client.subscribe(("t/#", qos))
        reader, writer = broker.connect("reader"), broker.connect("writer")
        reader.subscribe(("t/#", qos))
        for i in range(fewer(2000, 3)):  # far more than sockets hold
            writer.publish(f"t/{i}", bytes([i & 255]) * 20000, qos)
            reader.expect_message(f"t/{i}", qos=qos)
        memory.check(peak=(100 + 20 + 64) * 20000 + 10 * 128 * 1024 + 4 * MB)
        others.go_on()
        for i in range(10):
            broker.wait_log(rf"Outgoing messages are being dropped for client deaf-{i}: its queue is full")
        assert broker.log.count("being dropped") == 10
        for client in deaf:
            client.reset()


def test_a_client_that_takes_nothing_of_its_own(attacked):
    """Subscribed to what it publishes itself, at all QoS, as much as it can, without reading anything."""
    broker = attacked()
    with Bystanders(broker) as others:
        memory = Memory(broker)
        for qos in (0, 1, 2):
            client = deaf_client(broker, f"deaf-{qos}")
            client.subscribe(("t", qos))
            push(client, b"".join(publish("t", "x" * 1000, qos, mid=1 + i % 65535) for i in range(fewer(40000))))
            others.go_on()
            client.reset()
        memory.check(peak=24 * MB)


QUESTIONS = {
    "PINGREQ": (packet(PINGREQ, 0), packet(PINGRESP, 0)),
    "SUBSCRIBE": (subscribe(1, ("t", 0)), packet(SUBACK, 0, b"\0\1\0")),
    "SUBSCRIBE, large": (subscribe(1, *[("a", 1)] * 50000), packet(SUBACK, 0, b"\0\1" + b"\1" * 50000)),
    "UNSUBSCRIBE": (unsubscribe(1, "t"), ack(UNSUBACK, 1)),
    "PUBLISH QoS 1": (publish("t", "x", 1, mid=1), ack(PUBACK, 1)),
    "PUBLISH QoS 2, one id": (publish("t", "x", 2, mid=1), ack(PUBREC, 1)),
    "PUBREL, unknown": (ack(PUBREL, 1), ack(PUBCOMP, 1)),
    "PUBREC, unknown": (ack(PUBREC, 1), ack(PUBREL, 1)),
}


@pytest.mark.parametrize("what", QUESTIONS)
def test_answers_that_nobody_reads(attacked, what):
    """Questions without end. The broker stops reading when answers pile up; when they are read at last, all are there."""
    broker = attacked()
    question, answer = QUESTIONS[what]
    with Bystanders(broker) as others:
        memory = Memory(broker)
        client = deaf_client(broker, "deaf")
        many = 32 * MB // len(question)  # far more than sockets hold
        sent = push(client, question * many)
        others.go_on()
        assert 0 < sent < many * len(question), "it has taken everything"
        memory.check(peak=6 * MB)
        whole = -(-sent // len(question))  # the last one is finished while the answers are read
        rest = question * whole
        sender = threading.Thread(target=quiet_send, args=(client, rest[sent:]), daemon=True)
        sender.start()
        got = bytearray()
        while len(got) < whole * len(answer):
            got += client.stream.recv(1 << 20)
        assert got == answer * whole
        sender.join()
        client.ping()
        client.close()
        others.go_on()
        memory.check(peak=6 * MB)


def test_retained_messages_that_nobody_reads(attacked):
    """10 MB of retained messages, asked for again and again by twenty who do not read them."""
    broker = attacked()
    with Bystanders(broker) as others:
        writer = broker.connect("writer")
        for i in range(fewer(5000)):
            writer.publish(f"kept/{i % 50}/{i}", "x" * 2000, 1 if i % 100 == 0 else 0, retain=True)
        writer.ping()
        memory = Memory(broker)
        deaf = [deaf_client(broker, f"deaf-{i}") for i in range(20)]
        for i, client in enumerate(deaf):
            quiet_send(client, *(subscribe(1 + k, ("kept/#", i % 3), ("kept/+/+", 1), *((f"kept/{j}/#", 2) for j in range(50)))
                                 for k in range(100)))
        others.go_on()
        memory.check(peak=20 * (512 * 1024) + 4 * MB)
        slow = broker.connect("reads")  # and who reads gets them all
        slow.subscribe("kept/#")
        assert len({slow.receive().topic for _ in range(fewer(5000))}) == fewer(5000)
        for client in deaf:
            client.reset()


# ---- flows without an end

def flows(order, qos=2):
    ids = list(range(1, 65536))
    if order == "down":
        ids.reverse()
    elif order == "mixed":
        random.Random(7).shuffle(ids)
    elif order == "spread":
        ids.sort(key=lambda i: (i % 64, i))
    return b"".join(publish("flow", "x", qos, mid=i) for i in ids)


@pytest.mark.parametrize("order", ["up", "down", "mixed", "spread"])
def test_qos2_flows_that_never_end(attacked, order):
    """PUBLISH QoS 2 over all identifiers, again and again, without a PUBREL: a million from five clients, two with kept
    sessions that they take up again. Each is passed on once."""
    broker = attacked("max_queued_messages 70000\n")  # for the watcher: it may be late
    with Bystanders(broker) as others:
        watcher, memory = broker.connect("watcher"), Memory(broker)
        watcher.subscribe("flow")
        data, rounds = flows(order), fewer(3, 3)
        for number in range(5):
            kept = number < 2
            for again in range(rounds):
                client = broker.client()
                client.connect(f"endless-{number}", clean=not kept)
                with Drain(client) as answers, Drain(watcher) as passed_on:
                    client.send(data)
                    others.go_on()
                    answers.wait(4 * 65535)
                    first = number >= 2 or again == 0
                    passed_on.wait(len(publish("flow", "x")) * 65535 if first else 0)
                client.close()
        memory.check(peak=12 * MB + 5 * 640 * 1024)
        # all identifiers of the kept sessions are in use: nothing of them is passed on again
        for number in range(2):
            client = broker.client()
            assert client.connect(f"endless-{number}", clean=False)
            client.send(publish("flow", "again", 2, mid=777, dup=True))
            client.expect(PUBREC, 777)
            client.send(ack(PUBREL, 777))
            client.expect(PUBCOMP, 777)
            client.ping()
            broker.connect(f"endless-{number}").disconnect()  # CleanSession ends it
        watcher.expect_nothing()
        others.go_on()
        memory.check(peak=12 * MB + 5 * 640 * 1024, after=4 * MB)

