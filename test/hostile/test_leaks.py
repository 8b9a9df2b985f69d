"""What is refused, or ends badly, leaves nothing behind: after ten thousand of a kind the daemon has no more memory than
after the first thousand. With sanitizers they are fewer, and LeakSanitizer looks at the end (start() sees its complaint)."""

import pytest

from attack import MB, QUARANTINE, Bystanders, fewer
from bramble import SANITIZED
from rawmqtt import *

FIRST, ALL = fewer(1000), fewer(10000)
BOUND = MB if not SANITIZED else QUARANTINE + 8 * MB
BIG = "w" * 3000  # 9000 lost ones are 26 MB; a sixth of them, when only one way of six loses it, is still above the bound
CONFIG = "acl_file {dir}/acl\npassword_file {dir}/passwd\nallow_anonymous true\nmessage_size_limit 10000\nmax_topic_levels 20\n"
FILES = {"passwd": "one:secret", "acl": "topic readwrite #\ntopic deny forbidden\nuser one\ntopic readwrite #\n"}


def refused(broker, data, *codes):
    """Its first packet is the last one of this connection."""
    client = broker.client()
    client.send(data)
    for code in codes:
        assert client.expect(CONNACK).body[1] == code
    client.expect_closed()
    client.close()


def bad_will(broker, number):
    ways = (
        lambda: refused(broker, connect("c", will=Will("a/#", BIG))),
        lambda: refused(broker, connect("c", will=Will("will", BIG, 3))),
        lambda: refused(broker, connect("c", will=Will("will", BIG), flags=0x02)),  # there, and not announced
        lambda: refused(broker, connect("c", will=Will("will", "x" * 10001)), NOT_AUTHORISED),
        lambda: refused(broker, connect("c", will=Will("/" * 30, BIG)), NOT_AUTHORISED),
        lambda: broker.connect("c", will=Will("forbidden", BIG, 1)).lose(),
    )
    ways[number % len(ways)]()


def bad_connect(broker, number):
    names = {"user": "u" * 100, "password": "p" * 100}
    ways = (
        lambda: refused(broker, connect("c", level=7, will=Will("will", BIG)), BAD_LEVEL),
        lambda: refused(broker, connect("", clean=False, will=Will("will", BIG)), BAD_ID),
        lambda: refused(broker, connect("c", will=Will("will", BIG), flags=0x0F)),
        lambda: refused(broker, connect("c", will=Will("will", BIG), name="MQTX")),
        lambda: refused(broker, packet(CONNECT, 0, connect("c", will=Will("will", BIG), **names)[3:] + b"x")),
        lambda: refused(broker, packet(CONNECT, 0, connect("c", will=Will("will", BIG), **names)[3:-1])),
    )
    ways[number % len(ways)]()


def refused_login(broker, number):
    """A user that there is; now and then one that there is not, which costs more time; each third goes before it is known."""
    user = "one" if number % 400 else "u" * 1000
    data = connect("c" * 100, user=user, password="p" * 1000, will=Will("will", BIG), clean=False)
    if number % 3:
        refused(broker, data, NOT_AUTHORISED)
    else:
        client = broker.client()
        client.send(data)
        client.reset()


def bad_subscribe(broker, number):
    """What comes before the wrong filter is right."""
    client = broker.connect("bad", clean=number % 2 == 0)
    client.subscribe(*((f"{i}/" + "x" * 100, 1) for i in range(20)))
    wrong = [("a/#/b", 0), ("x", 3), ("", 0), (b"\xFF", 0), ("/" * 30, 0)][number % 5]
    client.send(subscribe(1, *((f"{i}/" + "y" * 100, 1) for i in range(20)), wrong, ("z", 0)))
    client.expect_closed()
    client.close()


def takeover(broker, number, before=[]):  # pylint: disable=dangerous-default-value; the one before
    """Each has a subscription, a message that waits, a will, a flow of QoS 2 and half a packet."""
    client = broker.client()
    client.connect("one", clean=number % 3 > 0, will=Will("forbidden", BIG))
    client.send(subscribe(1, (f"t/{number}", 2), ("mine", 2)), publish("mine", BIG, 2, mid=1), publish("mine", BIG, 1, mid=2)[:-1])
    while client.next().kind != PUBREC:
        pass
    while before:
        before.pop().close()
    before.append(client)


def repeated_qos2(broker, number, now=[]):  # pylint: disable=dangerous-default-value; the connection of a hundred
    """The same identifiers, released twice or never; a kept session is taken up again, a clean one is not."""
    if number % 100 == 0 or number == FIRST:
        while now:
            now.pop().reset()
        now.append(broker.client())
        now[0].connect("again", clean=number % 300 == 0)
    client, mid = now[0], 1 + number % 5
    client.send(publish("flow", BIG, 2, mid=mid), publish("flow", BIG, 2, mid=mid, dup=True))
    client.expect(PUBREC, mid)
    client.expect(PUBREC, mid)
    if number % 2:
        client.send(ack(PUBREL, mid), ack(PUBREL, mid))
        client.expect(PUBCOMP, mid)
        client.expect(PUBCOMP, mid)


def interrupted(broker, number):
    """The end comes in the middle of a big packet."""
    client = broker.connect("cut")
    data = publish("t", "x" * 20000, 1, mid=1) if number % 2 else subscribe(1, *[("a/b/c", 0)] * 2000)
    client.send(data[:-1 - number % 1000])
    client.reset() if number % 3 else client.lose()


CASES = {
    "a bad will": (bad_will, [r"protocol error in CONNECT", r"its will is larger", r"its will's topic has too many levels",
                              r"Denied the will of client c on 'forbidden'"]),
    "a bad CONNECT": (bad_connect, [r"refused: .*protocol level", r"refused: an empty client id", r"protocol error in CONNECT"]),
    "a refused login": (refused_login, [r"refused: wrong user name or password"]),
    "a bad SUBSCRIBE": (bad_subscribe, [r"Client bad .*protocol error in SUBSCRIBE: "]),
    "a takeover": (takeover, [r"Client one .*the same client id connected again"]),
    "a QoS 2 identifier again": (repeated_qos2, [r"Client again .*reset"]),
    "a packet that never ends": (interrupted, [r"Client cut .*it closed its connection"]),
}


@pytest.mark.parametrize("case", CASES)
def test_leaves_nothing_behind(attacked, case):
    once, reasons = CASES[case]
    broker = attacked(CONFIG, files=FILES)
    with Bystanders(broker) as others:
        before = 0
        for number in range(ALL):
            if number == FIRST:
                others.go_on()
                before = broker.resident()
            once(broker, number)
            if number % 2000 == 0:
                others.go_on()
        others.go_on()
        grown = broker.resident() - before
        print(f"{grown / MB:.2f} MB more than after the first {FIRST}")
        assert grown <= BOUND, f"{grown / MB:.1f} MB more than after the first {FIRST}"
        for reason in reasons:
            broker.wait_log(reason)
