"""Kept sessions: what is queued, what is sent again after a resume, in which order; and the limits of queues."""

import pytest

from rawmqtt import PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, ack, publish


def offline(broker, client_id, *filters, port="tcp"):
    """A kept session with these subscriptions, and nobody connected."""
    client = broker.connect(client_id, port, clean=False)
    client.subscribe(*filters)
    client.disconnect()


def resume(broker, client_id, port="tcp"):
    client = broker.client(port)
    assert client.connect(client_id, clean=False), "no session present"
    return client


def test_session_present(start):
    broker = start()
    client = broker.client()
    assert not client.connect("c", clean=False)
    client.disconnect()
    resume(broker, "c").disconnect()
    client = broker.client()
    assert not client.connect("c", clean=True)  # ends the kept one, and its own with it
    client.disconnect()
    client = broker.client()
    assert not client.connect("c", clean=False)


def test_messages_wait_for_an_offline_client(anywhere):
    broker, port = anywhere.broker, anywhere.transport
    offline(broker, "away", ("t/#", 2), port=port)
    writer = anywhere.connect("writer")
    for i in range(50):
        writer.publish(f"t/{i}", f"message {i}", 1 + i % 2)
    writer.publish("t/none", "QoS 0 is not kept", 0)
    writer.ping()
    away = resume(broker, "away", port)
    for i in range(50):
        away.expect_message(f"t/{i}", f"message {i}", 1 + i % 2, dup=False, retain=False)
    away.expect_nothing()


def test_clean_session_keeps_nothing(start):
    broker = start()
    client = broker.connect("c", clean=True)
    client.subscribe(("t", 1))
    client.disconnect()
    broker.connect("writer").publish("t", "x", 1)
    client = broker.client()
    assert not client.connect("c", clean=False)
    client.expect_nothing()


def test_queue_qos0_messages(start):
    broker = start("queue_qos0_messages true\n")
    offline(broker, "away", ("t", 0))
    writer = broker.connect("writer")
    for i in range(3):
        writer.publish("t", str(i), 0)
    writer.ping()
    away = resume(broker, "away")
    for i in range(3):
        away.expect_message("t", str(i), 0)
    away.expect_nothing()


@pytest.mark.parametrize("qos", [1, 2])
def test_unacknowledged_messages_are_sent_again(anywhere, qos):
    """In order, with the same identifiers and DUP; only those that were not acknowledged."""
    broker, port = anywhere.broker, anywhere.transport
    client = anywhere.connect("c", clean=False)
    client.subscribe(("t", qos))
    writer = anywhere.connect("writer")
    for i in range(5):
        writer.publish("t", str(i), qos)
    first = [client.expect_message("t", str(i), qos, dup=False, acknowledge=False) for i in range(5)]
    client.send(ack(PUBACK if qos == 1 else PUBREC, first[2].mid))
    if qos == 2:
        client.expect(PUBREL, first[2].mid)
    client.ping()
    client.reset()
    broker.wait_log("Client c .*disconnected")
    again = resume(broker, "c", port)
    for i in (0, 1, 2, 3, 4):
        if i == 2 and qos == 1:
            continue
        if i == 2:
            assert again.next().kind == PUBREL  # the message was taken: only the release is repeated
            again.send(ack(PUBCOMP, first[2].mid))
            continue
        got = again.expect_message("t", str(i), qos, dup=True, acknowledge=False)
        assert got.mid == first[i].mid
    again.expect_nothing()
    for i in (0, 1, 3, 4):
        again.send(ack(PUBACK if qos == 1 else PUBREC, first[i].mid))
        if qos == 2:
            again.expect(PUBREL, first[i].mid)
            again.send(ack(PUBCOMP, first[i].mid))
    again.ping()
    again.disconnect()
    resume(broker, "c", port).expect_nothing()


def test_pubrel_is_sent_again_until_pubcomp(start):
    broker = start()
    client = broker.connect("c", clean=False)
    client.subscribe(("t", 2))
    broker.connect("writer").publish("t", "x", 2)
    mid = client.receive(acknowledge=False).mid
    client.send(ack(PUBREC, mid))
    client.expect(PUBREL, mid)
    for _ in range(3):
        client.reset()
        client = resume(broker, "c")
        client.expect(PUBREL, mid)
    client.send(ack(PUBCOMP, mid))
    client.expect_nothing()
    client.disconnect()
    resume(broker, "c").expect_nothing()


def test_sent_again_before_what_is_new(start):
    """What was under way at the end comes first, then what was queued meanwhile."""
    broker = start("max_inflight_messages 3\n")
    client = broker.connect("c", clean=False)
    client.subscribe(("t", 1))
    writer = broker.connect("writer")
    for i in range(6):
        writer.publish("t", str(i), 1)
    for i in range(3):
        client.expect_message("t", str(i), acknowledge=False)
    client.expect_nothing()
    client.reset()
    broker.wait_log("Client c .*disconnected")
    for i in range(6, 9):
        writer.publish("t", str(i), 1)
    client = resume(broker, "c")
    for i in range(9):
        client.expect_message("t", str(i), dup=i < 3)
    client.expect_nothing()


@pytest.mark.parametrize("window", [1, 20])
def test_max_inflight_messages(start, window):
    broker = start(f"max_inflight_messages {window}\n")
    client = broker.connect("c")
    client.subscribe(("t", 2))
    writer = broker.connect("writer")
    for i in range(window + 2):
        writer.publish("t", str(i), 1 + i % 2)
    first = [client.expect_message("t", str(i), acknowledge=False) for i in range(window)]
    client.expect_nothing()
    client.send(ack(PUBACK, first[0].mid))
    last = client.expect_message("t", str(window), acknowledge=False)
    client.expect_nothing()
    if last.qos == 2:  # an open QoS 2 exchange keeps its place until PUBCOMP
        client.send(ack(PUBREC, last.mid))
        client.expect(PUBREL, last.mid)
        client.expect_nothing() if window == 1 else client.ping()
        client.send(ack(PUBCOMP, last.mid))
    else:
        client.send(ack(PUBACK, last.mid))
    client.expect_message("t", str(window + 1))


def test_max_inflight_bytes(start):
    broker = start("max_inflight_bytes 2500\n")
    client = broker.connect("c")
    client.subscribe(("t", 1))
    writer = broker.connect("writer")
    for i in range(4):
        writer.publish("t", str(i) * 1000, 1)
    writer.publish("t", "5" * 9000, 1)  # larger than all: goes alone
    mids = [client.receive(acknowledge=False).mid for _ in range(2)]
    client.expect_nothing()
    for mid in mids:
        client.send(ack(PUBACK, mid))
    for text in ("2" * 1000, "3" * 1000, "5" * 9000):
        client.expect_message("t", text)


def test_max_queued_messages(start):
    """Of an offline client: the oldest stay, the rest is dropped, said once and counted."""
    broker = start("max_queued_messages 10\nmax_inflight_messages 5\nsys_interval 1\n")
    offline(broker, "away", ("t", 1))
    writer = broker.connect("writer")
    for i in range(30):
        writer.publish("t", str(i), 1)
    broker.wait_log("Outgoing messages are being dropped for client away")
    away = resume(broker, "away")
    for i in range(10):
        away.expect_message("t", str(i))
    away.expect_nothing()
    assert broker.log.count("being dropped for client away") == 1
    writer.subscribe("$SYS/broker/publish/messages/dropped")
    while int(writer.receive().payload) != 20:
        pass


def test_max_queued_bytes(start):
    broker = start("max_queued_bytes 5000\nmax_queued_messages 0\n")
    offline(broker, "away", ("t", 1))
    writer = broker.connect("writer")
    for i in range(10):
        writer.publish("t", str(i) * 1000, 1)
    away = resume(broker, "away")
    for i in range(5):
        away.expect_message("t", str(i) * 1000)
    away.expect_nothing()


def test_no_limit_on_queues(start):
    broker = start("max_queued_messages 0\nmax_inflight_messages 0\n")
    offline(broker, "away", ("t", 1))
    writer = broker.connect("writer")
    count = 3000
    writer.send(*(publish("t", str(i), 1, mid=i + 1) for i in range(count)))
    for i in range(count):
        writer.expect(PUBACK, i + 1)
    away = resume(broker, "away")
    assert [int(away.expect(PUBLISH).payload) for _ in range(count)] == list(range(count))


def test_persistent_client_expiration_and_other_users(start):
    """A session belongs to client id and user."""
    broker = start("persistent_client_expiration 1h\n")
    client = broker.connect("c", clean=False, user="one", password="x")
    client.subscribe(("t", 1))
    client.disconnect()
    broker.connect("writer").publish("t", "for one", 1)
    broker.client().connect("c", clean=False, user="two", password="x", expect=5)
    client = broker.client()
    assert client.connect("c", clean=False, user="one", password="x")
    client.expect_message("t", "for one")




def test_retained_messages_still_owed_come_after_the_resume(start):
    """A full queue makes them wait. Who has the SUBACK gets them, be it on the next connection [MQTT-3.3.1-6]."""
    broker = start("max_inflight_messages 1\nmax_queued_messages 2\n")
    writer = broker.connect("writer")
    writer.publish("kept", "here", 1, retain=True)
    client = broker.connect("c", clean=False)
    client.subscribe(("t", 1))
    for i in range(3):
        writer.publish("t", str(i), 1)
    client.expect_message("t", "0", acknowledge=False)
    client.subscribe(("kept", 1))
    client.expect_nothing()
    client.reset()
    client = resume(broker, "c")
    for i in range(3):
        client.expect_message("t", str(i), dup=i == 0)
    client.expect_message("kept", "here", 1, retain=True)
    client.expect_nothing()
