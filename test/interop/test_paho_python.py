"""paho-mqtt for Python: its threads, QoS 2, automatic reconnects; over every transport."""

import queue
import socket
import ssl
import threading

import paho.mqtt.client as mqtt
import pytest

WAIT = 30


class Paho:
    """A client with its thread; what comes is in a queue."""

    def __init__(self, broker, port, client_id, clean=True, will=None):
        self.messages = queue.Queue()
        self.connects = queue.Queue()
        self.subscribed = queue.Queue()
        options = {"callback_api_version": mqtt.CallbackAPIVersion.VERSION1} if hasattr(mqtt, "CallbackAPIVersion") else {}
        self.client = client = mqtt.Client(client_id=client_id, clean_session=clean,
                                           transport="websockets" if port.startswith("ws") else "tcp", **options)
        if port in ("tls", "wss"):
            client.tls_set(ca_certs=str(broker.pki.ca), tls_version=ssl.PROTOCOL_TLS_CLIENT)
        if will:
            client.will_set(*will)
        client.max_inflight_messages_set(50)
        client.max_queued_messages_set(0)
        client.reconnect_delay_set(0.1, 1)
        client.on_connect = lambda _c, _u, flags, rc: self.connects.put((flags["session present"], rc))
        client.on_message = lambda _c, _u, m: self.messages.put(m)
        client.on_subscribe = lambda _c, _u, _mid, granted: self.subscribed.put(tuple(granted))
        client.connect("localhost" if port in ("tls", "wss") else "127.0.0.1", broker.ports[port], keepalive=60)
        client.loop_start()
        assert self.connected()[1] == 0

    def connected(self):
        return self.connects.get(timeout=WAIT)

    def subscribe(self, topic, qos):
        self.client.subscribe(topic, qos)
        assert self.subscribed.get(timeout=WAIT) == (qos,)

    def get(self):
        return self.messages.get(timeout=WAIT)

    def stop(self):
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def paho(anywhere):
    made = []

    def factory(client_id, **options):
        made.append(Paho(anywhere.broker, anywhere.transport, client_id, **options))
        return made[-1]

    yield factory
    for client in made:
        client.stop()


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages(paho, qos):
    reader, writer = paho("reader"), paho("writer")
    reader.subscribe("t/#", qos)
    for size in (0, 1, 1000, 100_000):
        writer.client.publish("t/x", b"x" * size, qos).wait_for_publish(WAIT)
        got = reader.get()
        assert (got.topic, got.payload, got.qos, got.retain) == ("t/x", b"x" * size, qos, False)


def test_four_threads_qos2(paho):
    """Each thread's messages come once, in its order."""
    reader, writer = paho("reader"), paho("writer")
    reader.subscribe("t/#", 2)
    count = 250

    def work(name):
        for i in range(count):
            writer.client.publish(f"t/{name}", str(i), 2)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    seen = {f"t/{name}": [] for name in "abcd"}
    for _ in range(4 * count):
        got = reader.get()
        seen[got.topic].append(int(got.payload))
    for thread in threads:
        thread.join()
    assert all(numbers == list(range(count)) for numbers in seen.values())
    assert reader.messages.empty()


def test_retained_and_will(paho):
    reader, dying = paho("reader"), paho("dying", will=("will", b"died", 2, True))
    reader.subscribe("will", 2)
    dying.client.publish("kept", "value", 1, retain=True).wait_for_publish(WAIT)
    reader.subscribe("kept", 1)
    assert reader.get().retain
    dying.client.reconnect_delay_set(60, 60)
    cut(dying.client)
    got = reader.get()
    assert (got.topic, got.payload, got.qos) == ("will", b"died", 2)


def test_reconnect_goes_on_with_the_session(anywhere, paho):
    """clean_session False and a connection that breaks again and again: nothing is lost, nothing comes twice.

    With TLS it breaks while paho is idle: a break in the middle of a write ends paho's thread (SSLEOFError)."""
    reader, writer = paho("reader", clean=False), paho("writer", clean=False)
    reader.subscribe("t", 2)
    count, got = 300, []
    for i in range(count):
        sent = writer.client.publish("t", str(i), 2)
        if i in (50, 150, 250):
            if anywhere.transport in ("tls", "wss"):
                sent.wait_for_publish(WAIT)
                got += [int(reader.get().payload) for _ in range(i + 1 - len(got))]
                idle(reader.client)
            for client in (reader, writer):
                cut(client.client)
            for client in (reader, writer):
                assert client.connected() == (1, 0)
    got += [int(reader.get().payload) for _ in range(count - len(got))]
    assert got == list(range(count))
    assert reader.messages.empty()


def idle(client):
    """The last PUBCOMP is gone when an answer to what was asked after it is there."""
    answered = threading.Event()
    client.on_unsubscribe = lambda *_: answered.set()
    client.unsubscribe("nothing")
    assert answered.wait(WAIT)


def cut(client):
    """Breaks the connection below paho (and below TLS, whose own shutdown() would go on in plain text)."""
    sock = client.socket()
    socket.socket.shutdown(getattr(sock, "_socket", sock), socket.SHUT_RDWR)


def test_messages_while_away(paho):
    reader, writer = paho("reader", clean=False), paho("writer")
    reader.subscribe("t", 1)
    reader.stop()
    for i in range(100):
        writer.client.publish("t", str(i), 1).wait_for_publish(WAIT)
    again = paho("reader", clean=False)
    assert [int(again.get().payload) for _ in range(100)] == list(range(100))


def test_restart_of_the_daemon(start):
    """paho connects again by itself."""
    broker = start()
    client = Paho(broker, "tcp", "c")
    broker.stop()
    broker.start()
    assert client.connected() == (0, 0)
    client.subscribe("t", 1)
    client.client.publish("t", "x", 1)
    assert client.get().payload == b"x"
    client.stop()
