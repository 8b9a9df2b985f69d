"""SIGHUP with other rules: what they do to what is live. (What else a reload does is in test_reload.py.)"""

import threading

import pytest

from bramble import passwd, run
from rawmqtt import ACCEPTED, PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, Will, ack, packet
from streams import Closed

ALL = "topic readwrite #\n"
OPEN = "topic write #\ntopic read open/#\ntopic read $SYS/#\n"


@pytest.fixture
def broker(start):
    return start("acl_file {dir}/acl\nsys_interval 1\nmax_queued_messages 0\n", files={"acl": ALL})


def new_rules(broker, text):
    broker.write("acl", text)
    broker.reload()


def wait_value(broker, name, value):
    """$SYS says so, now or soon."""
    client = broker.connect(f"waits for {name}")
    client.subscribe(f"$SYS/broker/{name}")
    while client.expect(PUBLISH).payload != str(value).encode():
        pass
    client.disconnect()


def under_way(broker):
    """A client that was sent messages it has not acknowledged: secret/1 at QoS 1 and 2, open/1 at both."""
    writer, client = broker.connect("writer"), broker.connect("c", clean=False)
    client.subscribe(("#", 2))
    mids = []
    for topic, qos in (("secret/1", 1), ("secret/1", 2), ("open/1", 1), ("open/1", 2)):
        writer.publish(topic, "x", qos)
        mids.append(client.expect_message(topic, "x", qos, acknowledge=False).mid)
    assert mids == [1, 2, 3, 4]
    return writer, client


def test_under_way(broker):
    """On its connection each exchange goes on as it has begun."""
    writer, client = under_way(broker)
    new_rules(broker, OPEN)
    broker.wait_log("Messages for client c are dropped: 2 waiting messages may no longer be read")
    client.expect_nothing()
    client.send(ack(PUBREC, 2), ack(PUBACK, 1), ack(PUBREC, 4))
    client.expect(PUBREL, 2)
    client.expect(PUBREL, 4)
    client.send(ack(PUBCOMP, 2), ack(PUBCOMP, 4), ack(PUBACK, 3))
    client.expect_nothing()
    writer.publish("secret/1", "y", 2)
    writer.publish("open/1", "y", 2)
    assert client.expect_message("open/1", "y", 2).mid == 5
    client.expect_nothing()
    client.lose()
    client = broker.client()
    assert client.connect("c", clean=False)
    client.expect_nothing()
    wait_value(broker, "publish/messages/revoked", 2)


@pytest.mark.parametrize("away", [False, True], ids=["here at the reload", "away at the reload"])
def test_under_way_and_resumed(broker, away):
    """After a resume QoS 1 is over, QoS 2 is released in its place, also with the old rules."""
    writer, client = under_way(broker)
    if away:
        client.lose()
    new_rules(broker, OPEN)
    new_rules(broker, ALL)
    if not away:
        client.lose()
    for _ in range(2):
        client = broker.client()
        assert client.connect("c", clean=False)
        client.expect(PUBREL, 2)
        got = [client.expect(PUBLISH) for _ in range(2)]
        assert [(p.topic, p.qos, p.mid, p.dup) for p in got] == [("open/1", 1, 3, True), ("open/1", 2, 4, True)]
        client.expect_nothing()
        client.lose()
    client = broker.client()
    client.connect("c", clean=False)
    client.expect(PUBREL, 2)
    client.expect(PUBLISH, 3)
    client.expect(PUBLISH, 4)
    client.send(ack(PUBCOMP, 2), ack(PUBACK, 3), ack(PUBREC, 4))
    client.expect(PUBREL, 4)
    client.send(ack(PUBCOMP, 4))
    writer.publish("secret/1", "y", 2)
    assert client.expect_message("secret/1", "y", 2).mid == 5
    client.expect_nothing()


def test_inbound_quality_2(broker):
    """Passed on at its PUBLISH; the rules of later do not stop the exchange, nor pass it on again."""
    reader, writer = broker.connect("reader"), broker.connect("writer")
    reader.subscribe(("open/#", 2))
    writer.send(packet(PUBLISH, 4, b"\0\6open/1\0\7x"))
    writer.expect(PUBREC, 7)
    reader.expect_message("open/1", "x", 2)
    new_rules(broker, "topic read open/#\n")
    writer.send(packet(PUBLISH, 12, b"\0\6open/1\0\7x"), ack(PUBREL, 7))
    writer.expect(PUBREC, 7)
    writer.expect(PUBCOMP, 7)
    reader.expect_nothing()


def test_many_sessions(broker):
    """What they hold goes bit by bit, and is gone before anybody gets it; the others are served meanwhile."""
    sessions, each = 400, 100
    for i in range(sessions):
        client = broker.connect(f"c{i}", clean=False)
        client.subscribe(("#", 1))
        client.disconnect()
    writer, other = broker.connect("writer"), broker.connect("other")
    other.subscribe(("open/#", 1))
    for i in range(each):
        writer.publish("open/1" if i % 2 else "secret/1", str(i), 1)
    for i in range(1, each, 2):
        other.expect_message("open/1", str(i))
    broker.write("acl", OPEN)
    broker.reload()
    last = broker.client()  # whom the walk meets last
    last.connect(f"c{sessions - 1}", clean=False)
    writer.publish("open/1", "new", 1)
    other.expect_message("open/1", "new")
    for i in range(1, each, 2):
        last.expect_message("open/1", str(i))
    last.expect_message("open/1", "new")
    last.expect_nothing()
    wait_value(broker, "publish/messages/revoked", sessions * each // 2)
    first = broker.client()
    first.connect("c0", clean=False)
    for i in range(1, each, 2):
        first.expect_message("open/1", str(i))
    first.expect_message("open/1", "new")
    first.expect_nothing()


def test_another_listener(start):
    """What was queued under the rules of one listener does not leave by another that forbids it."""
    broker = start("per_listener_settings true\nlistener {tcp} 127.0.0.1\nallow_anonymous true\nacl_file {dir}/all\n"
                   "listener {tcp2} 127.0.0.1\nallow_anonymous true\nacl_file {dir}/some\n",
                   files={"all": ALL, "some": OPEN})
    writer, client = broker.connect("writer"), broker.connect("c", clean=False)
    client.subscribe(("#", 1))
    client.disconnect()
    writer.publish("secret/1", "x", 1)
    writer.publish("open/1", "x", 1)
    client = broker.client("tcp2")
    assert client.connect("c", clean=False)
    client.expect_message("open/1", "x")
    client.expect_nothing()


def test_retained_messages_owed_at_another_qos(start):
    """A subscription that comes down to a lower QoS does so for the retained messages too that it still waits for."""
    config = "acl_file {dir}/acl\ncheck_retain_source false\nmax_queued_messages 5\nmax_inflight_messages 2\n"
    broker = start(config, files={"acl": ALL})
    writer, client = broker.connect("writer"), broker.connect("c")
    for i in range(30):
        writer.publish(f"kept/{i}", "x", 1, True)
    assert client.subscribe(*[(f"kept/{i}", 1) for i in range(30)]) == [1] * 30
    new_rules(broker, "qos 0\n" + ALL)
    assert sum(client.receive().qos for _ in range(30)) < 15  # those that were queued before


# ---- users ----------------------------------------------------------------------------------------------------------

@pytest.fixture
def with_users(start):
    return start("allow_anonymous false\npassword_file {dir}/passwd\n", files={"passwd": "one:secret two:secret"})


def one(broker, expect=ACCEPTED, **fields):
    client = broker.client()
    return client, client.connect("one", user="one", password="secret", clean=False, expect=expect, **fields)


def remove(broker, user):
    assert run("passwd", "-D", broker.dir / "passwd", user).returncode == 0


@pytest.mark.parametrize("here", [True, False], ids=["connected", "away"])
def test_session_of_a_removed_user(with_users, here):
    """Somebody else who gets its name later gets nothing of it."""
    client, _ = one(with_users)
    client.subscribe(("t", 1))
    if not here:
        client.disconnect()
    remove(with_users, "one")
    with_users.reload()
    if here:
        client.expect_closed()
    with_users.wait_log(r"The session of client one is discarded: its user is gone: one\.")
    with_users.connect("two", user="two", password="secret").publish("t", "x", 1)
    passwd(with_users.dir / "passwd", "one", "secret")
    with_users.reload()
    client, present = one(with_users)
    assert not present
    client.expect_nothing()


def test_session_of_a_changed_password(with_users):
    """It waits for the same user with the new one."""
    client, _ = one(with_users)
    client.subscribe(("t", 1))
    passwd(with_users.dir / "passwd", "one", "new secret")
    with_users.reload()
    client.expect_closed()
    with_users.connect("two", user="two", password="secret").publish("t", "x", 1)
    client = with_users.client()
    assert client.connect("one", user="one", password="new secret", clean=False)
    client.expect_message("t", "x")


def test_will_of_a_removed_user(with_users):
    """Not published: it has no rights any more. That of a changed password is, as of any connection that ends."""
    two = with_users.connect("two", user="two", password="secret")
    two.subscribe("will/#")
    client, _ = one(with_users, will=Will("will/one"))
    passwd(with_users.dir / "passwd", "one", "other")
    with_users.reload()
    client.expect_closed()
    two.expect_message("will/one", "gone")
    passwd(with_users.dir / "passwd", "one", "secret")
    with_users.reload()
    client, _ = one(with_users, will=Will("will/one"))
    remove(with_users, "one")
    with_users.reload()
    client.expect_closed()
    with_users.wait_log("Denied the will of client one on 'will/one': its user is gone")
    two.expect_nothing()


def test_retained_message_of_a_removed_user(with_users):
    """check_retain_source: whoever is gone may not publish, so what it left is not sent."""
    client, _ = one(with_users)
    client.publish("t", "one's", 1, retain=True)
    two = with_users.connect("two", user="two", password="secret")
    two.publish("u", "two's", 1, retain=True)
    two.subscribe("+")
    two.topics(2)
    remove(with_users, "one")
    with_users.reload()
    two.subscribe("+")
    two.expect_message("u", "two's")
    two.expect_nothing()


# ---- under load -----------------------------------------------------------------------------------------------------

class Phases:
    """What the clients of the test know: the number of the phase, and whether secrets are forbidden in it."""

    def __init__(self):
        self.changed = threading.Condition()
        self.number = 0
        self.over = False

    def next(self, over=False):
        with self.changed:
            self.number += 1
            self.over = over
            self.changed.notify_all()

    def wait_after(self, number):
        with self.changed:
            self.changed.wait_for(lambda: self.number > number or self.over)
            return None if self.over else self.number


class Thread(threading.Thread):
    """Its failure is the test's."""

    def __init__(self, *args):
        super().__init__(daemon=True)
        self.args = args
        self.failure = None
        self.start()

    def run(self):
        try:
            self.work(*self.args)
        except BaseException as failure:  # pylint: disable=broad-except
            self.failure = failure

    def end(self):
        self.join()
        if self.failure:
            raise self.failure


class Writer(Thread):
    def work(self, client, name, phases, each):
        number = self.sent = 0
        while (number := phases.wait_after(number)) is not None:
            for _ in range(each):
                client.publish("secret/" + name, b"x", 1)
                client.publish("open/" + name, str(self.sent), 1)
                self.sent += 1


class Reader(Thread):
    """forbidden: secrets must not come now. barrier: set at each PINGRESP."""

    def work(self, client):
        self.client, self.forbidden, self.barrier, self.seen = client, False, threading.Event(), {}
        while True:
            try:
                got = client.next()
            except Closed:
                return
            if got.kind == PINGRESP:
                self.barrier.set()
                continue
            assert not (self.forbidden and got.topic.startswith("secret")), str(got)
            client.send(ack(PUBACK, got.mid))
            if got.topic.startswith("open"):
                assert int(got.payload) == self.seen.get(got.topic, 0), str(got)
                self.seen[got.topic] = int(got.payload) + 1

    def pass_barrier(self):
        self.barrier.clear()
        self.client.send(packet(PINGREQ, 0))
        assert self.barrier.wait(60)


def test_reloads_under_load(broker):
    """25 publish, 25 read: after a reload and a PINGRESP nothing comes that it forbids; the rest comes whole and in
    order."""
    phases, each, names = Phases(), 5, [f"w{i}" for i in range(25)]
    readers = []
    for i in range(25):
        client = broker.connect(f"r{i}", keepalive=0)
        client.subscribe(("open/#", 1), ("secret/#", 1))
        readers.append(Reader(client))
    writers = [Writer(broker.connect(name), name, phases, each) for name in names]
    phases.next()
    for i in range(5):
        forbid = i % 2 == 0
        new_rules(broker, OPEN if forbid else ALL)
        if forbid:
            for reader in readers:
                reader.pass_barrier()
                reader.forbidden = True
        phases.next()
        if forbid and i < 4:
            for reader in readers:
                reader.pass_barrier()
                reader.forbidden = False
    phases.next(over=True)
    for writer in writers:
        writer.end()
    for reader in readers:
        wanted = {"open/" + writer.args[1]: writer.sent for writer in writers}
        while reader.is_alive() and reader.seen != wanted:
            reader.pass_barrier()
        reader.client.stream.end_output()
        reader.end()
        assert reader.seen == wanted
    assert sum(w.sent for w in writers) > 25 * each
