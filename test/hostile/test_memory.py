"""No memory: each allocation of a start, and of what clients do, fails once; then all of them from there on.

The daemon says so and ends, or goes on without what it wanted memory for. It never crashes, never lets anybody in who may
not, and serves those whom it did not hit. HOSTILE_ALL=1 tries every single allocation; otherwise some are left out.
"""

import contextlib
import re
import resource
import ssl
import urllib.request

import pytest

import rawmqtt
from bramble import LISTENER, SANITIZED, Broker, Failed
from rawmqtt import ACCEPTED, CONNACK, NOT_AUTHORISED, UNAVAILABLE, Will, connect, packet, publish, subscribe
from shims import ALWAYS, every, shim, shim_library  # noqa: F401 (fixtures)
from streams import Closed, HttpError

LOCKED = "allow_anonymous false\npassword_file {dir}/passwd\nacl_file {dir}/acl\nconnect_timeout 5\nhandshake_timeout 2\nsys_interval 0\n"
FILES = {"passwd": "one:secret two:secret", "acl": "user one\ntopic readwrite #\nuser two\ntopic readwrite two/#\n"}
OURS = {"user": "one", "password": "secret"}
LISTENERS = {"plain": LISTENER["tcp"], "tls": LISTENER["tls"], "ws": LISTENER["ws"],
             "all": "".join(LISTENER.values())}


class Refused(Exception):
    """CONNACK 3: "server unavailable"."""


LOST = (Refused, Closed, ConnectionError, HttpError, ssl.SSLError)


def is_locked(broker, port):
    """Strangers stay out, users come in."""
    broker.client(port).connect("stranger", expect=NOT_AUTHORISED)
    broker.client(port).connect("stranger", user="one", password="wrong", expect=NOT_AUTHORISED)
    broker.client(port).connect("stranger", user="nobody", password="secret", expect=NOT_AUTHORISED)
    two = broker.connect("two", port, user="two", password="secret")
    two.subscribe("#")
    two.publish("one/x", "denied", 1)
    broker.connect("one", port, **OURS).publish("one/x", "not for two", 1)
    two.ping()


def check_start(broker, port, shim):  # noqa: F811
    """A start under way: it is whole, or it ends with a reason. Whether it came to an allocation that fails."""
    failed = None
    try:
        broker.start()
    except Failed as error:
        failed = error
    hit = shim.failed > 0
    shim.calm()
    if failed:
        broker.wait(failed.status)  # looks for the complaints of sanitizers
        assert failed.status in (1, 3), f"{failed.status}: {failed.text}"
        assert "Error: " in failed.text, failed.text
    else:
        is_locked(broker, port)
        broker.stop()
    return hit


@pytest.mark.parametrize("kind", LISTENERS)
@pytest.mark.parametrize("count", [1, ALWAYS], ids=["one fails", "all fail from there"])
def test_start(tmp_path, pki, shim, kind, count):  # noqa: F811
    broker = Broker(tmp_path / "broker", LOCKED + LISTENERS[kind], pki, env=shim.env, files=FILES)
    before = shim.allocations
    broker.start()
    total = shim.allocations - before
    broker.stop()
    assert total > 100
    port = {"plain": "tcp", "all": "wss"}.get(kind, kind)
    hits = 0
    for number in every(total, 60):
        shim.fail(number, count)
        hits += check_start(broker, port, shim)
    assert hits > 10


def answer(client, *kinds):
    """The next packet of these kinds."""
    while True:
        got = client.next()
        if got.kind in kinds:
            return got


class Scene:
    """A daemon, and somebody beside what is tried who must not notice any of it."""

    def __init__(self, start, shim, port):  # noqa: F811
        self.shim = shim
        self.port = port
        self.broker = start(LOCKED + LISTENERS["all"], env=shim.env, files=FILES)
        self.bystander = self.broker.connect("bystander", "tcp", **OURS)
        self.bystander.subscribe(("bystander", 1))
        self.number = 0

    def client(self):
        return self.broker.client(self.port)

    def login(self, client_id, clean=True):
        """A client and whether it had a session."""
        client = self.client()
        client.send(connect(client_id, **OURS, clean=clean))
        got = client.expect(rawmqtt.CONNACK)
        if got.body[1] == rawmqtt.UNAVAILABLE:
            raise Refused
        assert got.body[1] == ACCEPTED, str(got)
        return client, bool(got.body[0])

    def undisturbed(self):
        self.bystander.publish("bystander", "still here", 1)
        self.bystander.expect_message("bystander", "still here")

    def sweep(self, attempt, count=1, most=150):
        """attempt() as it is, then with its first allocation failing, its second..."""
        before = self.shim.allocations
        attempt()
        self.undisturbed()
        hits = 0
        for number in every(self.shim.allocations - before, most):
            self.shim.fail(number, count)
            try:
                attempt()
            except LOST:
                pass
            finally:
                hits += self.shim.failed > 0
                self.shim.calm()
            self.undisturbed()
        assert hits > 0, "nothing failed: this tests nothing"


@pytest.fixture(params=["tcp", "tls", "ws", "wss"])
def scene(request, start, shim):  # noqa: F811
    made = Scene(start, shim, request.param)
    yield made
    is_locked(made.broker, made.port)


@pytest.mark.parametrize("count", [1, ALWAYS], ids=["one fails", "all fail from there"])
def test_login(scene, count):
    """CONNECT with a will and a kept session, right and wrong; an answer of 0 comes only to the right one."""
    def attempt():
        for password, codes in (("wrong", (NOT_AUTHORISED, rawmqtt.UNAVAILABLE)), ("secret", (ACCEPTED, rawmqtt.UNAVAILABLE))):
            client = scene.client()
            client.send(connect("c", user="two", password=password, clean=False, will=Will("two/will", "x", 1)))
            got = client.expect(rawmqtt.CONNACK)
            assert got.body[1] in codes, str(got)
            client.reset()
    scene.sweep(attempt, count)


@pytest.mark.parametrize("count", [1, ALWAYS], ids=["one fails", "all fail from there"])
def test_subscribe_publish_acknowledge(scene, count):
    """What is acknowledged has come; or the connection ends."""
    big = "x" * 20000

    def attempt():
        client, _ = scene.login("c", clean=False)
        client.send(subscribe(1, ("t/+/x", 2), ("r/#", 1)))
        codes = answer(client, rawmqtt.SUBACK).body[2:]
        assert set(codes) <= {0x80, 1, 2}
        for mid, payload in ((1, "small"), (2, big)):
            client.send(publish("t/1/x", payload, 2, mid=mid), publish("r/1", payload, 1, retain=True, mid=mid + 10))
            for _ in range(2):
                answer(client, rawmqtt.PUBREC, rawmqtt.PUBACK)
            client.send(rawmqtt.ack(rawmqtt.PUBREL, mid))
        client.send(rawmqtt.unsubscribe(2, "t/+/x", "r/#"))
        answer(client, rawmqtt.UNSUBACK)
        client.reset()

    scene.sweep(attempt, count)


def test_kept_session(scene):
    """Messages for somebody who is away, and who comes back for them."""
    def attempt():
        away, _ = scene.login("away", clean=False)
        away.send(subscribe(1, ("away/#", 1)))
        answer(away, rawmqtt.SUBACK)
        away.reset()
        writer, _ = scene.login("writer")
        for i in range(10):
            writer.send(publish(f"away/{i}", "x", 1, mid=1 + i))
            answer(writer, rawmqtt.PUBACK)
        writer.reset()
        back, _ = scene.login("away", clean=False)
        back.send(packet(rawmqtt.PINGREQ, 0))
        answer(back, rawmqtt.PINGRESP)
        back.reset()
        last, _ = scene.login("away")
        last.reset()
    scene.sweep(attempt)


def test_page(start, shim):  # noqa: F811
    scene = Scene(start, shim, "tcp")
    scene.broker.write("page/index.html", "x" * 30000)
    scene.broker.configure(LOCKED + LISTENERS["all"].replace("protocol websockets\n", "protocol websockets\nhttp_dir {dir}/page\n"))
    scene.broker.reload()

    def attempt():
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{scene.broker.ports['ws']}/", timeout=10).read()
    scene.sweep(attempt)


ENDS = r"Reloaded\.|verything stays as it was"


def test_reload(start, shim):  # noqa: F811
    """Each allocation of a reload: the new rules count, or the old ones as a whole."""
    scene = Scene(start, shim, "tls")
    broker = scene.broker
    acls = {"given": FILES["acl"] + "topic write extra\n", "taken": FILES["acl"]}
    two = broker.connect("probe", "tcp", user="two", password="secret")
    scene.bystander.subscribe(("extra", 1))
    before = shim.allocations
    broker.reload()
    broker.wait_log(ENDS)
    total = shim.allocations - before
    right, kept = "taken", 0
    for i, number in enumerate([*every(total, 150), 10 * total]):  # the last of them does not come to it
        asked = "taken" if i % 2 else "given"
        broker.write("acl", acls[asked])
        ends, at = len(re.findall(ENDS, broker.log)), len(broker.log)
        shim.fail(number)
        broker.reload()
        shim.calm()
        broker.wait_log(ENDS, ends + 1)
        said = broker.log[at:]
        if "Reloaded." in said:
            right = asked
        else:
            kept += 1
            assert "bramble.conf" in said or "emory" in said, said
        two.publish("extra", str(i), 1)
        if right == "given":
            scene.bystander.expect_message("extra", str(i))
        scene.undisturbed()
    assert kept > 10 and right == asked
    shim.fail(1, ALWAYS)
    broker.reload()
    broker.wait_log("Reload failed: no memory or no thread")
    shim.calm()
    is_locked(broker, "tls")


if not SANITIZED:  # they take terabytes of addresses
    def test_limited_addresses(start):
        """The system gives no more (RLIMIT_AS): big messages fill it; clients are told or dropped, the daemon stays."""
        broker = start("max_queued_messages 0\nmax_packet_size 268435460\n")
        away = broker.connect("away", clean=False)
        away.subscribe(("t", 1))
        away.disconnect()
        watcher = broker.connect("watcher")
        size = int(re.search(r"VmSize:\s+(\d+) kB", open(f"/proc/{broker.pid}/status").read())[1]) * 1024
        resource.prlimit(broker.pid, resource.RLIMIT_AS, (size + (100 << 20),) * 2)
        writer = broker.connect("writer")
        with contextlib.suppress(*LOST):
            for mid in range(1, 40):
                writer.send(publish("t", bytes(10 << 20), 1, mid=mid))
                writer.expect(rawmqtt.PUBACK)
            pytest.fail("400 MB fitted into 100 MB")
        broker.wait_log("out of memory for a packet of 10485")
        watcher.ping()
        broker.connect("away").disconnect()  # and with it what it did not fetch
        broker.connect("writer").publish("t", bytes(10 << 20), 1)
        watcher.ping()


def test_memory_limit(start):
    """memory_limit: QoS 0 is dropped, QoS 1 is not acknowledged; what is fetched makes room again."""
    broker = start("memory_limit 300000\nmax_queued_messages 0\n")
    away = broker.connect("away", clean=False)
    away.subscribe(("t", 1))
    away.disconnect()
    other, writer = broker.connect("other"), broker.connect("writer")
    sent = 0
    with contextlib.suppress(*LOST):
        for sent in range(1000):
            writer.publish("t", bytes(1000), 1)
    assert 100 < sent < 310
    broker.wait_log("memory_limit: [0-9]+ of its 300000 bytes are held")
    broker.wait_log("Client writer .*memory_limit is reached")
    with pytest.raises(AssertionError, match="CONNACK code 3"):
        broker.connect("writer")  # what stays is refused before what passes
    other.publish("t", bytes(1000))  # at QoS 0: silence
    other.ping()
    away = broker.client()
    assert away.connect("away", clean=False)
    for _ in range(sent):
        away.expect_message("t", bytes(1000), 1)
    away.ping()
    other.publish("t", "again", 1)
    broker.connect("writer").ping()
    away.expect_message("t", "again")


@pytest.mark.parametrize("limit", [1, 1000])
def test_memory_limit_of_almost_nothing(start, limit):
    """It runs, and says who cannot be served: nobody."""
    broker = start(f"memory_limit {limit}\nsys_interval 1\n")
    for _ in range(3):
        client = broker.client()
        client.send(connect("c"))
        assert client.expect(CONNACK).body == bytes([0, UNAVAILABLE])
        client.expect_closed()
    broker.wait_log(f"memory_limit: [0-9]+ of its {limit} bytes are held")
    broker.wait_log("memory_limit is reached", 3)
