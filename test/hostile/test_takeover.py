"""The same client id from many at once. One of them has it, the others are gone; what its session holds is neither lost
nor doubled; and an old connection that is on its way out is never touched again (a sanitizer would see it)."""

import random
import re
import threading

import pytest

from attack import MB, Bystanders, Memory, fewer, quiet_send
from bramble import passwd
from rawmqtt import *
from streams import Closed

TAKEN = "the same client id connected again"


def answer(client):
    """CONNACK's code, or None from one that was closed before it got any."""
    try:
        return client.expect(CONNACK).body[1]
    except (Closed, ConnectionError):
        return None


def is_up(client):
    try:
        client.send(packet(PINGREQ, 0))
        while client.next().kind != PINGRESP:
            pass
        return True
    except (Closed, ConnectionError):
        return False


def the_one(clients):
    """When all have been answered, one is left of those that were accepted."""
    accepted = [client for client in clients if answer(client) == ACCEPTED]
    up = [client for client in accepted if is_up(client)]
    assert len(up) == 1, f"{len(up)} of {len(accepted)} have the same client id"
    return up[0]


def take_all(client):
    """Receives what is waiting."""
    waiting = True
    while waiting:
        client.send(packet(PINGREQ, 0))
        waiting = False
        while (got := client.next()).kind != PINGRESP:
            waiting = True
            if got.qos:
                client.send(ack(PUBACK if got.qos == 1 else PUBREC, got.mid))
            if got.qos == 2:
                client.released.add(got.mid)


def all_at_once(broker, n, client_id="one", **fields):
    """n connections; then n CONNECTs, before any answer is read."""
    clients = [broker.client() for _ in range(n)]
    for client in clients:
        quiet_send(client, connect(client_id, **fields))
    return clients


@pytest.mark.parametrize("clean", [True, False])
def test_a_hundred_at_once(attacked, clean):
    """With wills, which are published for each that lost the id."""
    broker = attacked("max_queued_messages 0\n")
    with Bystanders(broker) as others:
        memory = Memory(broker)
        watcher = broker.connect("watcher")
        watcher.subscribe(("will", 2))
        for again in range(fewer(20)):
            clients = all_at_once(broker, 100, clean=clean, will=Will("will", "lost", 2))
            client = the_one(clients)
            client.send(packet(DISCONNECT, 0))
            client.expect_closed()
            for _ in range(99):
                watcher.expect_message("will", "lost", 2)
            broker.wait_log(rf"Client one \[127\.0\.0\.1:\d+\] disconnected: {TAKEN}\.", 99 * (again + 1))
            for client in clients:
                client.close()
        watcher.expect_nothing()
        others.go_on()
        memory.check(peak=4 * MB)


def test_a_hundred_logins_at_once(attacked):
    """Each password takes a while to check: the hundred are accepted one after the other, in whatever order the threads
    have them. The wrong ones take nothing over."""
    broker = attacked("password_file {dir}/passwd\nauth_threads 4\nauth_timeout 300\n", files={"passwd": "user:u"})
    passwd(broker.dir / "passwd", "slow", "right", "-H", "sha512-pbkdf2", "-I", "5000")  # some ms each
    broker.reload()
    with Bystanders(broker, user="user", password="u") as others:
        holder = broker.connect("one", user="slow", password="right", clean=False, keepalive=0)
        holder.subscribe(("t", 1))
        for client in all_at_once(broker, 30, user="slow", password="wrong", clean=False):
            client.connack(NOT_AUTHORISED)
        holder.ping()  # nobody without the password takes anything from it
        for again in range(3):
            clients = []
            for i in range(100):
                client = broker.client()
                quiet_send(client, connect("one", user="slow", password="right" if i % 4 else "wrong", clean=False,
                                           keepalive=0))
                clients.append(client)
            for client in clients[:20:3]:
                client.reset()  # and some do not wait
            kept = [client for i, client in enumerate(clients) if i % 3 or i >= 20]
            wrong = [client for client in kept if clients.index(client) % 4 == 0]
            for client in wrong:
                client.connack(NOT_AUTHORISED)
            up = the_one([client for client in kept if client not in wrong])
            up.publish("t", "still subscribed", 1)
            up.expect_message("t", "still subscribed", 1)
            others.go_on()
            for client in kept:
                client.close()
    broker.wait_log(rf"Client one \[.*\] disconnected: {TAKEN}\.", 3)


def test_a_storm_with_kept_sessions(attacked):
    """Fifty ids, each wanted by several at once, again and again, while their queues are being filled: connections end in
    the middle of everything. In the end each session still has its subscription and gets what was published last."""
    broker = attacked("max_queued_messages 50\nmax_inflight_messages 5\n")
    ids, stop = [f"id-{i}" for i in range(50)], threading.Event()
    with Bystanders(broker) as others:
        memory = Memory(broker)
        for name in ids:
            client = broker.connect(name, clean=False)
            client.subscribe(("storm/#", 2), (f"own/{name}", 1))
            client.close()
        writer = broker.connect("writer")

        def publish_all():
            number = 0
            while not stop.is_set():
                number += 1
                writer.publish(f"storm/{number % 7}", "x" * 500, number % 3)

        thread = threading.Thread(target=publish_all, daemon=True)
        thread.start()
        dice = random.Random(311)
        for _ in range(fewer(40)):
            clients = []
            for name in dice.sample(ids, 20) * 3:
                client = broker.client()
                quiet_send(client, connect(name, clean=False, will=Will("storm/will", name, 1)),
                           subscribe(3, ("storm/+", dice.randrange(3))), publish("storm/x", "y", 2, mid=dice.randrange(1, 9)))
                clients.append(client)
            dice.shuffle(clients)
            for client in clients:
                (client.reset if dice.random() < 0.5 else client.close)()
        stop.set()
        thread.join()
        others.go_on()
        memory.check(peak=50 * 55 * 1024 + 12 * MB)
        for name in ids:
            client = broker.client()
            assert client.connect(name, clean=False)
            take_all(client)
            writer.publish(f"own/{name}", "the last", 1)
            while client.receive().topic != f"own/{name}":
                pass  # what some have published before they were taken over
            client.disconnect()
        broker.wait_log(rf"Client id-\d+ \[.*\] disconnected: {TAKEN}\.")


def test_taken_over_in_the_middle_of_things(attacked):
    """A session with ten thousand subscriptions is taken over while messages come for it that all of them match, and
    while its own retained messages, a big packet of its own, and its SUBSCRIBEs are under way."""
    broker = attacked()
    with Bystanders(broker) as others:
        writer = broker.connect("writer")
        for i in range(1000):
            writer.publish(f"r/{i}", "kept", retain=True)
        filters = [("/".join("r+"[n >> i & 1] for i in range(10)), n % 3) for n in range(1024)]
        filters += [(f"r/{i}", 1) for i in range(4000)] + [(f"+/{i}", 2) for i in range(4000)]
        data = subscribe(5, *filters)
        topic = "/".join("r" * 10)
        for again in range(fewer(50)):
            clean = again % 5 == 0
            broker.wait_log(r"as many \(", again)  # sockets that are ready together are served in any order
            client = broker.client()
            cut = random.Random(again).randrange(1, 200_000)
            quiet_send(client, connect("many", clean=clean, will=Will(topic, "will", 2)), data,
                       publish(topic, "x" * 200_000, 1, mid=1)[:cut])
            writer.send(publish(topic, "x", again % 3, mid=1 + again))
            if again % 10 == 9:
                client.connack()
                while client.next().kind != SUBACK:
                    pass
        others.go_on()
        writer.close()
        client = broker.connect("many", clean=True)
        client.expect_nothing()
        client.close()
        assert not re.search("(?i)error(?! in )", broker.log)
