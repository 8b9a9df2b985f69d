"""What waits for what: each row of the table in the README ("How it is built") and of DESIGN.md, section 4.

No sync of the store comes to an end in these tests until they say so: what waits for the disk has not come, what does not
has. That nothing has come is seen by a PINGREQ whose answer is the next packet, and asked once more when the store's
thread hangs in its sync: by then all that could leave without it has left.
"""

import pytest

from rawmqtt import (ACCEPTED, CONNACK, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK, UNSUBACK, Will, ack, connect, publish,
                     subscribe, unsubscribe)

PROMPT = "persistence_commit_delay 0\npersistence_lazy_delay 3600000\n"      # what is due is due at once
PATIENT = "persistence_commit_delay 10000\npersistence_lazy_delay 3600000\n"  # who is there has time to acknowledge
KEPT = {"clean": False, "keepalive": 0}


def held(broker, client, *bystanders):
    """The disk is asked, and nothing has come to the client (nor to others)."""
    for each in (client, *bystanders):
        each.ping()
    broker.disk.wait_stalled()
    for each in (client, *bystanders):
        each.ping()


def away(broker, name="away", pattern="t/#", qos=2):
    """A kept session whose client is not there."""
    client = broker.connect(name, **KEPT)
    client.subscribe((pattern, qos))
    client.disconnect()


def settled(broker):
    """Nothing is under way to the disk: what was asked for before has been answered, so only lazy changes are left."""
    assert not broker.disk.get("waiting")


# ---- PUBACK: leaves after its ticket closes

@pytest.mark.parametrize("kept", [False, True])
def test_puback_waits_for_who_is_away(durable, kept):
    broker = durable(PATIENT)
    away(broker)
    client = broker.connect("p", clean=not kept)
    with broker.disk.stalled():
        client.send(publish("t/a", "x", 1, mid=5))
        held(broker, client)
    client.expect(PUBACK, 5)
    client.ping()


def test_puback_waits_for_who_does_not_acknowledge(durable):
    broker = durable(PROMPT)
    sub = broker.connect("s", **KEPT)
    sub.subscribe(("t/#", 1))
    client = broker.connect("p")
    with broker.disk.stalled():
        client.send(publish("t/a", "x", 1, mid=5))
        sub.expect_message("t/a", "x", 1, acknowledge=False)  # which itself waits for nothing
        held(broker, client)
    client.expect(PUBACK, 5)


def test_puback_waits_for_who_goes_without_acknowledging(durable):
    """Nobody is left who could acknowledge: it is due, however long the commit delay is."""
    broker = durable(PATIENT)
    sub = broker.connect("s", **KEPT)
    sub.subscribe(("t/#", 1))
    client = broker.connect("p")
    with broker.disk.stalled():
        client.send(publish("t/a", "x", 1, mid=5))
        sub.expect_message("t/a", "x", 1, acknowledge=False)
        client.ping()
        assert not broker.disk.get("waiting"), "not before its client has gone"
        sub.lose()
        held(broker, client)
    client.expect(PUBACK, 5)


def test_puback_leaves_when_who_is_there_has_acknowledged(durable):
    """Nothing is written, so the disk is not asked."""
    broker = durable(PATIENT)
    subs = [broker.connect(f"s{i}", **KEPT) for i in range(3)]
    for sub in subs:
        sub.subscribe(("t/#", 1))
    client = broker.connect("p")
    with broker.disk.stalled():
        syncs, writes = broker.disk.get("syncs"), broker.disk.get("writes")
        client.send(publish("t/a", "x", 1, mid=5))
        for sub in subs:
            got = sub.expect_message("t/a", "x", 1, acknowledge=False)
            client.ping()
            sub.send(ack(PUBACK, got.mid))
        client.expect(PUBACK, 5)
        assert (broker.disk.get("syncs"), broker.disk.get("writes")) == (syncs, writes)
        assert not broker.disk.get("waiting")


def test_puback_that_discards_by_unsubscribing_session(durable):
    """A session that ends is owed nothing any more."""
    broker = durable(PATIENT)
    sub = broker.connect("s", **KEPT)
    sub.subscribe(("t/#", 1))
    client = broker.connect("p")
    with broker.disk.stalled():
        client.send(publish("t/a", "x", 1, mid=5))
        sub.expect_message("t/a", "x", 1, acknowledge=False)
        client.ping()
        other = broker.client()
        other.send(connect("s", clean=True))  # takes over, and discards the session
        client.expect(PUBACK, 5)
    other.connack()


def test_puback_with_nobody_to_owe_it_to(durable):
    broker = durable(PROMPT)
    clean = broker.connect("c")
    clean.subscribe(("t/#", 2))
    away(broker, qos=0)
    client = broker.connect("p", **KEPT)
    with broker.disk.stalled():
        client.publish("t/a", "x", 1)
        clean.expect_message("t/a", "x", 1)


def test_puback_waits_for_retained(durable):
    broker = durable(PATIENT)
    client = broker.connect("p")
    with broker.disk.stalled():
        client.send(publish("r/a", "x", 0, retain=True))
        client.ping()
        assert not broker.disk.get("waiting"), "a retained message of QoS 0 is in no hurry"
        client.send(publish("r/a", "y", 1, retain=True, mid=5))
        held(broker, client)
    client.expect(PUBACK, 5)


def test_pubacks_keep_their_order(durable):
    """One that has nothing to wait for is not before one that has [MQTT-4.6.0-2]."""
    broker = durable(PATIENT)
    away(broker)
    client = broker.connect("p")
    with broker.disk.stalled():
        client.send(publish("t/a", "x", 1, mid=5), publish("u/a", "y", 1, mid=6), publish("t/a", "z", 1, mid=7))
        held(broker, client)
    for mid in (5, 6, 7):
        client.expect(PUBACK, mid)


def test_held_answers_end_with_their_connection(durable):
    broker = durable(PATIENT)
    away(broker)
    client = broker.connect("p", **KEPT)
    with broker.disk.stalled():
        client.send(publish("t/a", "x", 1, mid=5))
        held(broker, client)
        client.close()
        again = broker.connect("p", **KEPT)
        again.ping()
    again.publish("t/b", "y", 1)  # its own comes, and the other's does not
    again.ping()


# ---- PUBREC: the same; from a kept session also the commit of the inbound id

@pytest.mark.parametrize("somebody", [False, True])
def test_pubrec_of_a_kept_publisher_waits(durable, somebody):
    broker = durable(PATIENT)
    if somebody:
        away(broker)
    client = broker.connect("p", **KEPT)
    with broker.disk.stalled():
        client.send(publish("t/a", "x", 2, mid=5))
        held(broker, client)
    client.expect(PUBREC, 5)
    client.send(ack(PUBREL, 5))
    client.expect(PUBCOMP, 5)


def test_pubrec_of_a_clean_publisher_waits_for_its_ticket_only(durable):
    broker = durable(PATIENT)
    client = broker.connect("p")
    with broker.disk.stalled():
        client.publish("t/a", "x", 2)
    away(broker)
    with broker.disk.stalled():
        client.send(publish("t/a", "x", 2, mid=5))
        held(broker, client)
    client.expect(PUBREC, 5)


def test_repeated_qos2_publish_gets_no_answer_of_its_own(durable):
    broker = durable(PATIENT)
    sub = broker.connect("c")
    sub.subscribe(("t/#", 1))
    client = broker.connect("p", **KEPT)
    with broker.disk.stalled():
        client.send(publish("t/a", "x", 2, mid=5))
        sub.expect_message("t/a", "x", 1)
        for _ in range(3):
            client.send(publish("t/a", "x", 2, mid=5, dup=True))
            held(broker, client)
        sub.ping()
    client.expect(PUBREC, 5)


def test_repeated_qos2_publish_after_takeover_waits_for_the_first(durable):
    """The inbound id belongs to the session and keeps its ticket."""
    broker = durable(PATIENT)
    sub = broker.connect("c")
    sub.subscribe(("t/#", 1))
    client = broker.connect("p", **KEPT)
    client.subscribe("never/0")  # a session that is stored
    with broker.disk.stalled():
        client.send(publish("t/a", "x", 2, mid=5))
        sub.expect_message("t/a", "x", 1)
        held(broker, client)
        client = broker.connect("p", **KEPT)
        client.send(publish("t/a", "x", 2, mid=5, dup=True))
        held(broker, client)
        sub.ping()
    client.expect(PUBREC, 5)


# ---- PUBCOMP to a kept publisher: the commit of the id's removal

def test_pubcomp_to_a_kept_publisher_waits(durable):
    broker = durable(PATIENT)
    client = broker.connect("p", **KEPT)
    client.send(publish("t/a", "x", 2, mid=5))
    client.expect(PUBREC, 5)
    with broker.disk.stalled():
        client.send(ack(PUBREL, 5))
        held(broker, client)
    client.expect(PUBCOMP, 5)


def test_pubcomp_of_an_unknown_id_does_not(durable):
    broker = durable(PATIENT)
    client = broker.connect("p", **KEPT)
    with broker.disk.stalled():
        client.send(ack(PUBREL, 9))
        client.expect(PUBCOMP, 9)


def test_pubcomp_to_a_clean_publisher_does_not(durable):
    broker = durable(PATIENT)
    client = broker.connect("p")
    client.send(publish("t/a", "x", 2, mid=5))
    client.expect(PUBREC, 5)
    with broker.disk.stalled():
        client.send(ack(PUBREL, 5))
        client.expect(PUBCOMP, 5)


# ---- PUBLISH QoS 2 to a kept session: the commit of its row with packet id

def test_qos2_publish_to_a_kept_session_waits(durable):
    broker = durable(PROMPT)
    sub = broker.connect("s", **KEPT)
    sub.subscribe(("t/#", 2))
    client = broker.connect("p")
    with broker.disk.stalled():
        client.send(publish("t/a", "x", 2, mid=5))
        held(broker, sub, client)
    sub.expect_message("t/a", "x", 2, dup=False)
    client.expect(PUBREC, 5)


def test_qos2_publish_to_a_clean_session_does_not(durable):
    broker = durable(PROMPT)
    sub = broker.connect("s")
    sub.subscribe(("t/#", 2))
    client = broker.connect("p")
    with broker.disk.stalled():
        client.publish("t/a", "x", 2)
        sub.expect_message("t/a", "x", 2)
        sub.ping()


def test_nothing_else_waits_behind_a_qos2_publish(durable):
    broker = durable(PROMPT)
    sub = broker.connect("s", **KEPT)
    sub.subscribe(("t/#", 2))
    client = broker.connect("p")
    with broker.disk.stalled():
        client.send(publish("t/a", "x", 2, mid=5))
        held(broker, sub, client)
        client.send(publish("t/a", "y", 0))
        sub.expect_message("t/a", "y", 0)
        client.send(publish("t/a", "z", 1, mid=6))
        sub.expect_message("t/a", "z", 1)
    sub.expect_message("t/a", "x", 2)


# ---- PUBREL to a kept session: the commit of "PUBREC received"

def test_pubrel_to_a_kept_session_waits(durable):
    broker = durable(PROMPT)
    sub = broker.connect("s", **KEPT)
    sub.subscribe(("t/#", 2))
    client = broker.connect("p")
    client.publish("t/a", "x", 2)
    got = sub.expect_message("t/a", "x", 2, acknowledge=False)
    with broker.disk.stalled():
        sub.send(ack(PUBREC, got.mid))
        held(broker, sub)
    sub.expect(PUBREL, got.mid)
    sub.send(ack(PUBCOMP, got.mid))
    sub.ping()


def test_pubrel_to_a_clean_session_does_not(durable):
    broker = durable(PROMPT)
    sub = broker.connect("s")
    sub.subscribe(("t/#", 2))
    client = broker.connect("p")
    client.publish("t/a", "x", 2)
    got = sub.expect_message("t/a", "x", 2, acknowledge=False)
    with broker.disk.stalled():
        sub.send(ack(PUBREC, got.mid))
        sub.expect(PUBREL, got.mid)


def test_pubrel_for_an_unknown_id_does_not(durable):
    broker = durable(PROMPT)
    sub = broker.connect("s", **KEPT)
    with broker.disk.stalled():
        sub.send(ack(PUBREC, 77))
        sub.expect(PUBREL, 77)


# ---- SUBACK, UNSUBACK of a kept session: the commit; what is retained starts after the SUBACK

def test_suback_of_a_kept_session_waits(durable):
    broker = durable(PATIENT)
    broker.connect("p").publish("t/a", "kept", 1, retain=True)
    sub = broker.connect("s", **KEPT)
    with broker.disk.stalled():
        sub.send(subscribe(3, ("t/#", 1)))
        held(broker, sub)
    sub.expect(SUBACK, 3)
    sub.expect_message("t/a", "kept", 1, retain=True)


def test_unsuback_of_a_kept_session_waits(durable):
    broker = durable(PATIENT)
    sub = broker.connect("s", **KEPT)
    sub.subscribe(("t/#", 1))
    with broker.disk.stalled():
        sub.send(unsubscribe(3, "t/#"))
        held(broker, sub)
    sub.expect(UNSUBACK, 3)


def test_suback_of_a_clean_session_does_not(durable):
    broker = durable(PATIENT)
    broker.connect("p").publish("t/a", "kept", 1, retain=True)
    sub = broker.connect("s")
    with broker.disk.stalled():
        sub.subscribe(("t/#", 1))
        sub.expect_message("t/a", "kept", 1, retain=True)
        sub.unsubscribe("t/#")


# ---- CONNACK of a CONNECT that discards stored state or stores a will: that commit

def waits_for_connack(broker, bystander, *args, **kwargs):
    client = broker.client()
    client.send(connect(*args, **kwargs))
    bystander.ping()
    broker.disk.wait_stalled()
    bystander.ping()
    assert not client.buffer
    client.stream.patience(0.01)  # nothing is to come: an answer would be there, it would have left before the ping's
    with pytest.raises(TimeoutError):
        client.stream.recv(1)
    client.stream.patience(20)
    return client


def test_connack_that_discards_waits(durable):
    broker = durable(PATIENT)
    away(broker, "s")
    other = broker.connect("other")
    with broker.disk.stalled():
        client = waits_for_connack(broker, other, "s", clean=True)
    assert client.connack(ACCEPTED) is False


@pytest.mark.parametrize("qos,retain", [(1, False), (2, True), (0, True)])
def test_connack_that_stores_a_will_waits(durable, qos, retain):
    broker = durable(PATIENT)
    other = broker.connect("other")
    with broker.disk.stalled():
        client = waits_for_connack(broker, other, "s", clean=False, will=Will("w/s", "gone", qos, retain))
    client.connack(ACCEPTED)


def test_other_connacks_do_not(durable):
    broker = durable(PATIENT)
    away(broker, "kept")
    with broker.disk.stalled():
        assert broker.connect("new", **KEPT)
        client = broker.client()
        assert client.connect("kept", clean=False) is True
        broker.connect("clean")
        broker.connect("will", will=Will("w/clean", "gone", 1))  # of a clean session: in no hurry
        broker.connect("will0", clean=False, will=Will("w/kept", "gone", 0))
        broker.connect("clean")  # takes over a session of which nothing is stored


# ---- everything else waits for nothing, and is not behind the above

def test_everything_else_goes_on(durable):
    broker = durable(PATIENT)
    away(broker)
    waiting = broker.connect("waiting", **KEPT)
    waiting.subscribe(("e/#", 0), ("f/#", 1))
    kept = broker.connect("kept", **KEPT)
    kept.subscribe(("q/1", 1), ("q/0", 0))
    clean = broker.connect("clean")
    with broker.disk.stalled():
        waiting.send(publish("t/a", "x", 1, mid=5), publish("t/a", "y", 2, mid=6))  # both are held
        held(broker, waiting, kept, clean)
        for round_ in range(20):
            text = f"{round_}"
            clean.send(publish("e/a", text))                     # QoS 0 to who waits
            waiting.expect_message("e/a", text, 0)
            waiting.send(publish("q/0", text))                   # and from there
            kept.expect_message("q/0", text, 0)
            clean.send(publish("q/1", text, 1, mid=8))           # QoS 1 between those who are there
            kept.expect_message("q/1", text, 1)
            clean.expect(PUBACK, 8)
            clean.send(publish("f/1", text, 1, mid=9))           # also to who waits
            waiting.expect_message("f/1", text, 1)
            clean.expect(PUBACK, 9)
            other = broker.connect(f"other{round_}")             # those who come
            other.subscribe(("o/#", 2))
            clean.publish("o/a", text, 2)
            other.expect_message("o/a", text, 2)
            other.ping()
            other.unsubscribe("o/#")
            other.disconnect()
            waiting.ping()
            kept.ping()
        away_now = broker.connect("away", clean=False)           # a session that is resumed
        got = away_now.expect_message("t/a", "x", 1)
        assert got.dup is False
    waiting.expect(PUBACK, 5)
    waiting.expect(PUBREC, 6)
