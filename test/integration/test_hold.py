"""A store that takes nothing: who asks for what must be stored is held, and given up after a while; all the others are
served. (The disk has less room than is to be left free: persistence_min_free.)"""

from rawmqtt import PINGREQ, PINGRESP, UNAVAILABLE, Will, connect, packet, publish, subscribe

FULL = "persistence true\npersistence_location {dir}\npersistence_min_free 1000000000000000\nsys_interval 1\n"


def test_a_store_without_room(start):
    broker = start(FULL + "persistence_hold_timeout 1\n")
    kept = broker.connect("kept", clean=False)
    watch = broker.connect("watch")
    watch.subscribe("#")
    writer = broker.connect("writer", keepalive=1)
    writer.send(publish("t", "1", 1, retain=True, mid=1))
    watch.expect_message("t", "1", 0)
    broker.wait_log("durable store has failed")
    kept.send(subscribe(1, ("t", 1)), packet(PINGREQ, 0))  # it cannot be stored; nothing behind it is read
    # once more, and that is nothing new; QoS 0 goes; the third has to wait, and all behind it
    writer.send(publish("t", "1", 1, retain=True, mid=1, dup=True), publish("t", "2", 0), packet(PINGREQ, 0),
                publish("t", "3", 1, mid=3), publish("t", "4", 0))
    watch.expect_message("t", "2", 0)
    writer.expect(PINGRESP)
    writer.expect_closed()
    kept.expect_closed()
    broker.wait_log("Client writer .* disconnected: the durable store has failed, for longer than persistence_hold_timeout")
    watch.expect_nothing()
    watch.publish("t", "still", 0)
    watch.expect_message("t", "still", 0)
    assert broker.log.count("The durable store has failed:") == 1


def test_who_asks_at_connect_for_what_cannot_be_stored(start):
    broker = start(FULL)
    writer = broker.connect("writer")
    writer.send(publish("t", "1", 1, retain=True, mid=1))
    broker.wait_log("durable store has failed")
    client = broker.client()
    client.send(connect("will", clean=False, will=Will("w", b"gone", 1)))
    client.connack(expect=UNAVAILABLE)
    broker.wait_log("Client will .* refused: it asks for what must be stored, and the store has failed")
    client = broker.connect("will", clean=False, will=Will("w", b"gone", 0))  # is not stored
    client.ping()
