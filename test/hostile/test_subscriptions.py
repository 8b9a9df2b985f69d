"""Subscriptions as a weapon: many, deep, overlapping, denied, coming and going while others publish. What they cost is
bounded, given back, and does not keep the loop from the others."""

import itertools
import random
import re
import threading

import pytest

from attack import MB, Bystanders, Drain, Memory, fewer
from bramble import LISTENER, SANITIZED
from rawmqtt import *

LONG = 12  # levels


def sys_value(broker, name, accept):
    """Follows a number below $SYS/broker/ until it is accepted."""
    client = broker.connect(f"sys-{name.replace('/', '-')}")
    client.subscribe("$SYS/broker/" + name)
    while not accept(value := int(client.receive().payload)):
        pass
    client.disconnect()
    return value


def subscribe_all(client, filters):
    """In one packet. The codes."""
    mid = client.mid()
    client.send(subscribe(mid, *filters))
    return list(client.expect(SUBACK, mid).body[2:])


def different():
    filters = [(f"site/{i}/#", i % 3) for i in range(5000)] + [(f"site/+/{i}", i % 3) for i in range(4992)]
    filters += [("site/#", 0), ("site/+/+", 1), ("+/7/#", 2), ("site/7/7", 1)] * 2
    random.Random(5).shuffle(filters)
    return filters


KINDS = {  # filters, how many subscriptions they are, at which QoS "site/7/7" comes then
    "different": (different(), 9996, 2),
    "the same": ([("site/7/#", 2)] + [("site/7/#", 1)] * 9999, 1, 1),  # the last one counts
    "deep": ([(f"site/{i}/" + "x/" * 17 + "#", 1) for i in range(9999)] + [("site/7/7", 1)], 10000, 1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_filters(attacked, kind):
    """In one SUBSCRIBE: one SUBACK with ten thousand codes in their order; a message that many of them match comes once;
    one UNSUBSCRIBE takes all back, and the memory with it."""
    filters, count, qos = KINDS[kind]
    assert len(filters) == 10000
    broker = attacked("sys_interval 1\n")
    with Bystanders(broker) as others:
        watcher = broker.connect("watcher")
        client = broker.connect("many")
        held = sys_value(broker, "memory/held", lambda n: True)
        memory = Memory(broker)
        for _ in range(3):  # the same again costs nothing more
            assert subscribe_all(client, filters) == [qos for _, qos in filters]
            others.go_on()
        sys_value(broker, "subscriptions/count", lambda n: n == count + 2)  # the others', and this one
        watcher.publish("site/7/7", "once", 2)
        assert str(got := client.receive()) and (got.topic, got.qos) == ("site/7/7", qos)
        client.ping()
        mid = client.mid()
        client.send(unsubscribe(mid, *(name for name, _ in filters)))
        client.expect(UNSUBACK, mid)
        sys_value(broker, "subscriptions/count", lambda n: n == 2)
        sys_value(broker, "memory/held", lambda n: n < held + 100_000)
        watcher.publish("site/7/7", "nobody wants it", 1)
        client.ping()
        memory.check(peak=40 * MB)


def test_retained_messages_for_ten_thousand_filters(attacked):
    """They come for each filter that matches, behind the SUBACK."""
    broker = attacked()
    with Bystanders(broker):
        client = broker.connect("many")
        client.publish("site/7/7", "kept", 1, retain=True)
        assert len(subscribe_all(client, different())) == 10000
        for _ in range(10):  # site/7/#, site/+/7, and four twice
            assert (got := client.receive()).retain and got.topic == "site/7/7"
        client.ping()


def test_as_many_filters_as_a_packet_may_have(attacked):
    """60,000 are answered; one more is more than a SUBACK could answer. UNSUBSCRIBE has nothing to count."""
    broker = attacked()
    with Bystanders(broker):
        client = broker.connect("greedy")
        assert subscribe_all(client, [("a", 0)] * 60000) == [0] * 60000
        client.send(unsubscribe(1, *["a"] * 60001))
        client.expect(UNSUBACK, 1)
        client.send(subscribe(2, *[("a", 0)] * 60001))
        client.expect_closed()
        broker.wait_log(r"Client greedy \[.*\] disconnected: protocol error in SUBSCRIBE: it has too many filters\.")


def long_subscribe(mid=1):
    """It takes many turns of the loop."""
    return subscribe(mid, *((f"{i}/" + "x/" * (LONG - 2) + "x", 1) for i in range(fewer(55000, 3))))


@pytest.mark.parametrize("way", ["half-closed", "closed", "taken over", "lost"])
def test_it_goes_while_it_asks(attacked, way):
    """What it sent before counts: the whole SUBSCRIBE, and a DISCONNECT, so that there is no will. Without one there is."""
    broker = attacked("max_packet_size 4000000\n")
    with Bystanders(broker) as others:
        watcher = broker.connect("watcher")
        watcher.subscribe(("will", 1))
        for round_ in range(3):
            client = broker.client()
            client.connect("mortal", clean=False, will=Will("will", f"{way} {round_}", 1))
            client.send(long_subscribe(), packet(DISCONNECT, 0) if way.endswith("closed") else b"")
            if way == "half-closed":
                client.lose()
            elif way == "taken over":
                again = broker.connect("mortal", clean=False)
                client.expect_closed() if not client.buffer else None
                again.disconnect()
            client.close()
            others.go_on()
            if way.endswith("closed"):
                broker.wait_log(r"Client mortal disconnected\.", round_ + 1)
                watcher.ping()
            else:
                watcher.expect_message("will", f"{way} {round_}")
        broker.connect("mortal").disconnect()  # CleanSession: all that it has is buried, while others go on


@pytest.mark.parametrize("end", ["stop", "reload"])
def test_the_daemon_ends_or_reloads_while_it_asks(attacked, end):
    broker = attacked("acl_file {dir}/acl\nmax_packet_size 4000000\n", files={"acl": "topic readwrite #\n"})
    clients = [broker.connect(f"c{i}", will=Will("w", "x")) for i in range(3)]
    for client in clients:
        client.send(long_subscribe(7), packet(PINGREQ, 0))
    if end == "stop":
        broker.stop()
        return
    broker.write("acl", "topic write #\n")
    broker.reload()
    for client in clients:
        assert set(client.expect(SUBACK, 7).body[2:]) == {1}
        client.expect(PINGRESP)


def test_many_who_ask_at_once(attacked):
    """Thirty of them, again and again; one who asks for little, and for what is retained, gets it all the same."""
    broker = attacked("max_packet_size 4000000\n")
    with Bystanders(broker) as others:
        modest = broker.connect("modest")
        modest.publish("kept", "k", 1, retain=True)
        greedy = [broker.connect(f"greedy-{i}") for i in range(30)]
        filters = [(f"{i}/" + "x/" * (LONG - 1), 0) for i in range(fewer(1000))]
        names = [name for name, _ in filters]
        for client in greedy:
            client.send(*[subscribe(1, *filters), unsubscribe(2, *names)] * 5)
        for _ in range(10):
            modest.subscribe("kept")
            assert modest.receive().topic == "kept"
            modest.unsubscribe("kept")
        others.go_on()
        for client in greedy:
            for _ in range(5):
                assert list(client.expect(SUBACK, 1).body[2:]) == [0] * len(filters)
                client.expect(UNSUBACK, 2)


def test_one_line_for_a_packet_of_denied_filters(attacked):
    """Not 60,000 of them: that would be a way to fill the disk."""
    broker = attacked("memory_limit 1500000\nlistener {tcp9} 127.0.0.1\nmount_point m/\n" + LISTENER["tcp"])
    with Bystanders(broker) as others:
        client = broker.connect("c")
        codes = subscribe_all(client, [(str(i), 1) for i in range(60000)])
        granted = codes.index(FAILURE)
        assert granted > 100 and codes == [1] * granted + [FAILURE] * (60000 - granted)
        broker.wait_log(f"Denied SUBSCRIBE from c to {60000 - granted} filters of one packet: memory_limit is reached[.] "
                        f"The first is '{granted}'[.]")
        client.disconnect()
        client = broker.connect("c", "tcp9")
        assert subscribe_all(client, [("a", 0)] + [("x" * 65534, 0)] * 2) == [0] + [FAILURE] * 2
        broker.wait_log("Denied SUBSCRIBE from c to 2 filters of one packet: too long with mount_point[.]")
        others.go_on()
        assert broker.log.count("Denied") == 2


def test_churn_against_publishing(attacked):
    """Four clients subscribe and unsubscribe without a pause what three others publish to: wildcards, levels that come and
    go, at all QoS. Who stays gets each message once and in order. Afterwards not one subscription is left, nor its memory."""
    broker = attacked("sys_interval 1\nmax_queued_messages 0\n")
    messages, changes = fewer(2000, 4), fewer(10000)
    with Bystanders(broker) as others:
        steady = broker.connect("steady")
        steady.subscribe(("c/#", 2))
        held = sys_value(broker, "memory/held", lambda n: True)
        shapes = ("c/{0}/#", "c/+/{0}", "+/{0}/#", "c/{0}/{1}/{0}", "c/#", "c/+/+", "c/{0}", "c/{1}/{0}/x/y/z/{0}")
        churners = [broker.connect(f"churn-{i}", clean=i % 2 == 0) for i in range(4)]
        writers = [broker.connect(f"writer-{i}") for i in range(3)]
        memory = Memory(broker)
        failed, got = [], [[] for _ in writers]

        def write(qos):
            for i in range(messages):
                writers[qos].publish(f"c/{i % 97}/{i % 13}", f"{qos} {i}", qos)
            writers[qos].ping()

        def read():
            while sum(map(len, got)) < 3 * messages:
                qos, i = steady.receive().payload.split()
                got[int(qos)].append(int(i))

        def watched(work, *args):
            try:
                work(*args)
            except Exception as error:  # pylint: disable=broad-except; it is raised again below
                failed.append(error)

        threads = [threading.Thread(target=watched, args=args, daemon=True)
                   for args in ((read,), (write, 0), (write, 1), (write, 2))]
        with Drain(*churners):
            for thread in threads:
                thread.start()
            turns = itertools.count()
            for i in turns:
                client, shape = churners[i % 4], shapes[i // 4 % len(shapes)].format(i // 4 % 97, i // 3 % 89)
                client.send(subscribe(1, (shape, i % 2)), *([unsubscribe(2, shape)] if i % 3 else []))
                if i % 1000 == 0:
                    others.go_on()
                if i >= changes and not any(thread.is_alive() for thread in threads):
                    break
        if failed:
            raise failed[0]
        assert got == [list(range(messages))] * 3
        for client in churners:
            client.close()
        for i in range(4):
            broker.connect(f"churn-{i}").disconnect()  # CleanSession: kept ones too are gone
        sys_value(broker, "subscriptions/count", lambda n: n == 3)  # the others', the steady one's and this
        sys_value(broker, "memory/held", lambda n: n < held + 100_000)
        memory.check(peak=24 * MB)


def test_a_topic_that_tens_of_thousands_of_filters_match(attacked):
    """One client holds every mixture of a name and '+'; twenty publish to the topic that all of them match. Each such
    message is dear; the others have their turn all the same, and it comes once."""
    levels = 15 if not SANITIZED else 11
    broker = attacked()
    with Bystanders(broker) as others:
        memory = Memory(broker)
        client = broker.connect("holder")
        filters = ["/".join(mix) for mix in itertools.product("a+", repeat=levels)]
        assert subscribe_all(client, [(name, 0) for name in filters]) == [0] * (1 << levels)
        memory.check(peak=MB + (4 << levels) * 250)
        topic = "/".join("a" * levels)
        writers = [broker.connect(f"writer-{i}") for i in range(20)]
        with Drain(client) as drain:
            for writer in writers:
                writer.send(publish(topic, "x") * 50)
            for _ in range(3):
                others.go_on()
                late = broker.connect("late")  # somebody new
                late.subscribe("late")
                late.publish("late", "x", 1)
                late.expect_message("late", "x")
            drain.wait(20 * 50 * len(publish(topic, "x")))
        client.close()
        others.go_on()


def test_deep_trees_are_given_back(attacked):
    """Filters of 200 levels that share nothing: what costs most for its bytes. It is taken away with the client."""
    broker = attacked("sys_interval 1\n")
    with Bystanders(broker) as others:
        held = sys_value(broker, "memory/held", lambda n: True)
        for again in range(3):
            client = broker.connect("deep")
            for part in range(fewer(10, 3)):
                client.subscribe(*("/".join([f"{again}.{part}.{i}"] + ["x"] * 199) for i in range(100)))
            others.go_on()
            sys_value(broker, "memory/held", lambda n: n > held + 1_000_000)
            (client.reset if again else client.disconnect)()
            sys_value(broker, "memory/held", lambda n: n < held + 100_000)


def test_memory_limit_against_subscriptions(attacked):
    """Without measure until the limit is reached: then 0x80, a line for each packet that says so with the number, and
    whoever was there goes on."""
    broker = attacked("memory_limit 20000000\n")
    with Bystanders(broker) as others:
        memory = Memory(broker)
        client = broker.connect("greedy")
        codes = []
        for part in range(40):
            codes += client.subscribe(*("/".join([f"{part}.{i}"] + ["x"] * 199) for i in range(100)))
        granted = codes.index(FAILURE)
        few = len(codes) - granted - codes.count(FAILURE)  # fit where a message of the others was until then
        assert granted > 300 and few < 20
        broker.wait_log(r"memory_limit: \d+ of its 20000000 bytes are held: no new sessions, subscriptions")
        denied = r"Denied SUBSCRIBE from greedy to (\d+) filters of one packet: memory_limit is reached\."
        broker.wait_log(denied + " The first is '39[.]0/")  # the last packet's
        alone = broker.log.count("Denied SUBSCRIBE from greedy to '")
        assert sum(map(int, re.findall(denied, broker.log))) + alone == codes.count(FAILURE)
        memory.check(peak=36 * MB)
        others.go_on()
        for late in range(1000):  # the packet itself counted, too
            new = broker.client()
            new.send(connect(f"late-{late}", clean=False))
            if new.expect(CONNACK).body[1] == UNAVAILABLE:
                break
            new.close()
        broker.wait_log(rf"Client late-{late} \[.*\] refused: memory_limit is reached\.")
        client.disconnect()
        for late in range(1000):  # it is buried bit by bit, and nobody says so who is not asked
            new = broker.client()
            new.send(connect("late"))
            code = new.expect(CONNACK).body[1]
            if "New sessions, subscriptions and topics of retained messages are welcome again" in broker.log:
                break
            new.close()
        assert code == ACCEPTED and new.subscribe("x") == [0]


@pytest.mark.parametrize("clean", [True, False])
def test_kept_sessions_without_end(attacked, clean):
    """A new client id each time. Kept sessions stay, until memory_limit; clean ones leave nothing."""
    broker = attacked("memory_limit 4000000\nconnection_messages false\n")
    with Bystanders(broker) as others:
        memory = Memory(broker)
        refused = 0
        for i in range(fewer(6000, 2)):
            client = broker.client()
            client.send(connect(f"{i}-" + "x" * 1000, clean=clean), subscribe(1, (f"t/{i}", 1)), packet(DISCONNECT, 0))
            refused += client.expect(CONNACK).body[1] == UNAVAILABLE
            client.reset()
            if i % 1000 == 0:
                others.go_on()
        assert bool(refused) == (not clean)
        memory.check(peak=8 * MB)
        if not clean:
            broker.wait_log(r"memory_limit: \d+ of its 4000000 bytes are held: no new sessions")
