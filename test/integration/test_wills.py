"""Wills: when they are published, and when not."""

import pytest

from rawmqtt import DISCONNECT, Will, connect, packet, publish, subscribe


def watch(broker, qos=2):
    watcher = broker.connect("watcher")
    watcher.subscribe(("will/#", qos))
    return watcher


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_will_after_a_lost_connection(start, how, qos):
    broker = start()
    watcher = watch(broker)
    client = broker.connect("c", will=Will("will/c", b"gone", qos))
    watcher.expect_nothing()
    getattr(client, how)()
    watcher.expect_message("will/c", "gone", qos, retain=False)
    watcher.expect_nothing()


def test_will_over_every_transport(anywhere):
    watcher = anywhere.connect("watcher")
    watcher.subscribe("will")
    anywhere.connect("c", will=Will("will", bytes(range(256)))).reset()
    watcher.expect_message("will", bytes(range(256)))


def test_retained_will(start):
    broker = start()
    watcher = watch(broker)
    broker.connect("c", will=Will("will/c", b"gone", 1, retain=True)).close()
    watcher.expect_message("will/c", "gone", 1, retain=False)
    later = broker.connect("later")
    later.subscribe("will/c")
    later.expect_message("will/c", "gone", retain=True)


def test_empty_retained_will_clears(start):
    broker = start()
    watcher = watch(broker)
    watcher.publish("will/c", "here", 1, retain=True)
    watcher.expect_message("will/c", "here")
    broker.connect("c", will=Will("will/c", b"", 1, retain=True)).close()
    watcher.expect_message("will/c", "")
    later = broker.connect("later")
    later.subscribe("will/#")
    later.expect_nothing()


def test_will_of_a_kept_session_is_not_kept(start):
    """A will belongs to its connection."""
    broker = start()
    watcher = watch(broker)
    broker.connect("c", clean=False, will=Will("will/c", b"first")).close()
    watcher.expect_message("will/c", "first")
    second = broker.connect("c", clean=False)
    second.close()
    broker.wait_log("Client c .*disconnected", 2)
    watcher.expect_nothing()


def test_refused_client_has_no_will(start):
    broker = start("max_keepalive 100\n")
    watcher = watch(broker)
    broker.client().connect("c", keepalive=200, will=Will("will/c"), expect=2)
    watcher.expect_nothing()


def test_will_reaches_the_clients_own_kept_session(start):
    broker = start()
    client = broker.connect("c", clean=False, will=Will("will/c", b"of mine", 1))
    client.subscribe(("will/c", 1))
    client.close()
    broker.wait_log("Client c .*disconnected")
    client = broker.client()
    assert client.connect("c", clean=False)
    client.expect_message("will/c", "of mine", 1)


@pytest.mark.parametrize("config,will", [
    ("retain_available false\n", Will("will/c", retain=True)),
    ("listener {tcp} 127.0.0.1\nmax_qos 0\n", Will("will/c", qos=1)),
])
def test_will_that_asks_too_much_is_refused(start, config, will):
    broker = start(config)
    broker.client().connect("c", will=will, expect=5)


@pytest.mark.parametrize("attempt", range(3))
def test_no_will_when_disconnect_waits(anywhere, attempt):
    """A DISCONNECT that was received counts, also when there was an answer that could not be sent any more."""
    broker = anywhere.start("max_inflight_messages 1\nmax_queued_messages 2\n")
    watcher = anywhere.connect("watcher")
    watcher.subscribe(("will", 1))
    client = anywhere.client()
    client.send(connect("c", will=Will("will", qos=1)), subscribe(1, ("t", 1)),
                *(publish("t", "x" * 100, 1, mid=i) for i in range(2, 9)), packet(DISCONNECT, 0))
    broker.wait_log(" as c [(]")
    client.reset()
    broker.wait_log("Client c.* disconnected")
    watcher.expect_nothing()
