"""User names and client ids that look like more than a name, against "pattern" lines of an acl_file: whoever is called "+"
or "%u" has no right to what belongs to another, neither in topics nor in subscriptions, now, later or retained."""

import pytest

from attack import Bystanders
from rawmqtt import *

RULES = """
topic readwrite bystanders/#
user admin
topic readwrite #
user watcher
topic read #
pattern readwrite u/%u/#
pattern readwrite c/%c/#
pattern readwrite both/%u/%c
pattern read %u%c/mail
pattern write drop/%c/%u/in
"""
VICTIM = ("victim", "victim-1")
THEIRS = ("u/victim", "u/victim/secret", "u/victim/a/b", "c/victim-1", "c/victim-1/secret", "both/victim/victim-1",
          "victimvictim-1/mail", "drop/victim-1/victim/in")
FILTERS = ("#", "+/#", "u/#", "u/+/secret", "+/victim/#", "c/+/#", "c/victim-1/secret", "both/+/+", "drop/#", "+/mail",
           "u/%u/#", "c/%c/#", "both/%u/%c", "+/+/+/+")
WILD = ["+", "#", "+/+", "victim/#", "vic+", "#victim", "victim-1/+", "/+", "+/"]
PLAIN = ["/", "//", "%u", "%c", "%u/%c", "%", "%%", "victim%c", "%uvictim", "victim/", "/victim", "..", "../victim", "victim ",
         "VICTIM", "victim-", "$share", "$x", "u/victim", "victim\x7f"]


@pytest.fixture
def broker(attacked):
    """Names are taken as they are: there is no password file."""
    return attacked("acl_file {dir}/acl\n", files={"acl": RULES})


def is_theirs(topic):
    return topic in THEIRS or topic.startswith(("u/victim/kept", "c/victim-1/kept"))


def all_that_comes(client):
    """Until it has the answer to its PINGREQ."""
    client.send(packet(PINGREQ, 0))
    while (got := client.next()).kind != PINGRESP:
        assert got.kind == PUBLISH, str(got)
        if got.qos:
            client.send(ack(PUBACK, got.mid))
        yield got


def spy(broker, admin, victim, user, client_id):
    """It looks and writes everywhere; the victim sees nothing of it, and it nothing of the victim's."""
    client = broker.connect(client_id, user=user, clean=False)
    assert client.subscribe(*((name, 1) for name in FILTERS)) == [1] * len(FILTERS)
    for topic in THEIRS:
        admin.publish(topic, "secret", 1)
    for got in all_that_comes(client):
        raise AssertionError(f"{user!r} {client_id!r} got {got}")
    for topic in THEIRS:
        client.send(publish(topic, "forged", 1, mid=1), publish(topic, "forged", 1, retain=True, mid=2))
        client.expect(PUBACK, 1)  # the standard has no way to say no
        client.expect(PUBACK, 2)
    came = [(got.topic, got.payload) for got in all_that_comes(victim)]
    assert came == [(topic, b"secret") for topic in THEIRS[:-1]], f"{user!r} {client_id!r}"
    client.lose()
    for topic in THEIRS:
        admin.publish(topic, "while it was away", 1)
    for _ in all_that_comes(victim):
        pass
    client = broker.client()
    assert client.connect(client_id, user=user, clean=False)
    for got in all_that_comes(client):
        raise AssertionError(f"{user!r} {client_id!r} got {got}")
    return client


def has_its_own(admin, client, user, client_id):
    for topic in (f"u/{user}/x", f"c/{client_id}/x", f"both/{user}/{client_id}"):
        client.subscribe(topic)
        client.publish(topic, "its own", 1)
        assert {got.topic for got in all_that_comes(client)} == {topic}
    client.subscribe(f"{user}{client_id}/mail")
    admin.publish(f"{user}{client_id}/mail", "its own", 1)
    assert [got.payload for got in all_that_comes(client)] == [b"its own"] * (not user.startswith("$"))


@pytest.mark.parametrize("place", ["user", "client id", "both"])
@pytest.mark.parametrize("kind", ["wild", "plain"])
def test_names_that_look_like_patterns(broker, kind, place):
    with Bystanders(broker, user="admin") as others:
        admin = broker.connect("admin", user="admin")
        victim = broker.connect(VICTIM[1], user=VICTIM[0])
        for topic in ("u/victim/kept", "c/victim-1/kept"):
            admin.publish(topic, "secret", 1, retain=True)
        victim.subscribe(("u/victim/#", 1), ("c/victim-1/#", 1), ("both/#", 1), ("+/mail", 1), ("drop/#", 1))
        assert {got.topic for got in all_that_comes(victim)} == {"u/victim/kept", "c/victim-1/kept"}
        for number, name in enumerate(WILD if kind == "wild" else PLAIN):
            user = name if place != "client id" else "eve"
            client_id = name if place != "user" else f"eve-{number}"
            client = spy(broker, admin, victim, user, client_id)
            if kind == "plain":
                has_its_own(admin, client, user, client_id)
            else:  # not even what it would be by the letter
                client.publish(f"both/{user}/{client_id}".replace("+", "x").replace("#", "x"), "?", 1)
            for got in all_that_comes(client):
                assert not is_theirs(got.topic)
            client.lose()
            for got in all_that_comes(victim):  # "u/victim//x" of the user "victim/" is below what it subscribed to
                assert got.payload == b"its own"
        others.go_on()


@pytest.mark.parametrize("name", ["vic\0tim", "\0", "victim\0", "victim\0+"])
def test_names_with_a_nul(broker, name):
    """Who would be cut short by it to be another."""
    with Bystanders(broker, user="admin"):
        broker.connect(VICTIM[1], user=VICTIM[0])
        for data in (connect(name, user="x"), connect("x", user=name), connect("c", user="x", will=Will(f"u/{name}", "w"))):
            client = broker.client()
            client.send(data)
            client.expect_closed()
        broker.wait_log("protocol error in CONNECT: .*", 3)


LIMITS = """clientid %u-*
clientid *:%u:*?
user admin
clientid *
topic readwrite #
user victim
clientid victim-1
topic readwrite u/victim/#
pattern readwrite u/%u/#
"""
STARS = ["*", "?", "**", "*?", "vic*", "victim-?", "%u", "%u%u", "%c", "[a-z]*", "\\*", "", "v", "-*"]


def test_limits_take_names_as_they_are(attacked):
    """A user called "*" has the client ids that begin with "*-", and no others; neither has any other name."""
    broker = attacked("acl_file {dir}/acl\n", files={"acl": LIMITS})
    with Bystanders(broker, user="admin") as others:
        victim = broker.connect(VICTIM[1], user=VICTIM[0])
        for user in (*STARS, *WILD, *PLAIN):
            for client_id in ("victim-1", "victim-x", "*", "x", "*-", f"x{user}-1", user):
                if not client_id.startswith(f"{user}-"):
                    broker.client().connect(client_id or "x", user=user, expect=5)
            if user:
                broker.connect(f"{user}-1", user=user).ping()
                broker.connect(f"x:{user}:1", user=user).ping()
        for client_id in ("victim-2", "victim-1-", "Victim-1"):  # a section of its own counts alone
            broker.client().connect(client_id, user="victim", expect=5)
        victim.ping()
        others.go_on()


def test_limits_and_names_of_65535_bytes(attacked):
    """They are looked at as far as 512 bytes: patterns that would go back over and over cost nothing."""
    rules = "".join(f"clientid *{'a*' * n}%u*?%u*b\n" for n in range(1, 100)) + "user admin\nclientid *\ntopic #\n"
    broker = attacked("acl_file {dir}/acl\n", files={"acl": rules})
    with Bystanders(broker, user="admin") as others:
        for size in (511, 512, 513, 30_000, 65_535):
            for user in ("a" * min(size, 60_000), "a" * 200, "a", "a" * 100 + "c"):
                client = broker.client()
                client.send(connect("a" * size, user=user))
                assert client.next().body[1:] == b"\5"
        others.go_on()


def test_a_slash_in_a_name_is_one_of_the_topic(broker):
    """As mosquitto has it: who may choose "victim-1/secret" as client id has what stands there below "c/%c/#", as he has who
    chooses "victim-1". Where that matters the client id must be one's own (use_username_as_clientid)."""
    admin = broker.connect("admin", user="admin")
    client = broker.connect("victim-1/secret", user="eve")
    client.subscribe(("c/#", 1))
    admin.publish("c/victim-1/secret", "x", 1)
    admin.publish("c/victim-1/other", "x", 1)
    assert [got.topic for got in all_that_comes(client)] == ["c/victim-1/secret"]
