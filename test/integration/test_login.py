"""Logins: what a failure costs and when it is answered, who is refused after many, what is remembered, whose session."""

import socket
import time

import pytest

from bramble import passwd
from rawmqtt import ACCEPTED, NOT_AUTHORISED, Client, connect
from streams import TIMEOUT, Plain

CLOSED = "listener {tcp} 127.0.0.1\nallow_anonymous false\npassword_file {dir}/passwd\n"
USERS = {"passwd": "one:secret two:secret"}


def counter(broker, name, least):
    """Waits until a value below $SYS/broker/connections/ is at least this."""
    client = broker.connect("counter", user="one", password="secret")
    client.subscribe(f"$SYS/broker/connections/{name}")
    while int(client.receive().payload) < least:
        pass
    client.disconnect()


DELAY = 1.5


@pytest.mark.parametrize("cause", ["wrong", "unknown", "no password", "no user", "token for a password", "no file"])
def test_failures_are_answered_at_the_same_time(start, cause):
    """CONNACK 5, and not before its time, whatever the cause. (How long after depends on the machine.)"""
    config = CLOSED + f"auth_fail_delay {int(DELAY * 1000)}\n"
    broker = start(config.replace("password_file {dir}/passwd\n", "") if cause == "no file" else config, files=USERS)
    fields = {"wrong": {"user": "one", "password": "wrong"},
              "unknown": {"user": "nobody", "password": "secret"},
              "no password": {"user": "one"},
              "no user": {},
              "token for a password": {"user": "one", "password": "brmbl_" + "A" * 43},
              "no file": {"user": "one", "password": "secret"}}[cause]
    client = broker.client()
    before = time.monotonic()
    client.send(connect("c", **fields))
    client.connack(NOT_AUTHORISED)
    assert time.monotonic() - before >= DELAY - 0.01  # the loop's clock is read once a turn
    client.expect_closed()


def test_nobody_else_waits_for_a_failure(start):
    """Two hundred logins that have failed wait for their answer. Who is in, and who comes in, does not notice."""
    broker = start(CLOSED + "auth_fail_delay 60000\n", files=USERS)
    inside = broker.connect("inside", user="one", password="secret")
    inside.subscribe("t")
    failed = [broker.client() for _ in range(200)]
    for i, client in enumerate(failed):
        client.send(connect(f"failed-{i}", user="one", password="wrong"))
    broker.wait_log(r"Client failed-\d+ \[.*\] refused: wrong user name or password\.", 200)
    inside.publish("t", "x", 1)
    inside.expect_message("t", "x")
    broker.connect("late", user="two", password="secret").ping()
    for client in failed:
        client.close()
    inside.ping()


def test_a_user_is_refused_after_many_failures(start):
    """On this machine only the user that has failed is; and after the time it may come again."""
    broker = start(CLOSED + "auth_ban_failures 4\nauth_ban_time 2\nsys_interval 1\n", files=USERS)
    for _ in range(4):
        broker.client().connect("c", user="two", password="wrong", expect=NOT_AUTHORISED)
    banned = time.monotonic()
    broker.wait_log(r"Logins of user 'two' from 127\.0\.0\.1 are refused for 2 seconds: too many failed\.")
    broker.client().connect("c", user="two", password="secret", expect=NOT_AUTHORISED)
    broker.connect("c", user="one", password="secret").ping()
    counter(broker, "bans", 1)
    counter(broker, "logins_banned", 1)
    code = NOT_AUTHORISED
    while code != ACCEPTED:
        client = broker.client()
        client.send(connect("c", user="two", password="secret"))
        code = client.next().body[1]
    assert time.monotonic() - banned >= 1.9
    assert broker.log.count("too many failed") == 1


def client_from(broker, address):
    return Client(Plain(socket.create_connection(("127.0.0.1", broker.ports["tcp"]), TIMEOUT, (address, 0))))


def test_an_address_is_refused_after_many_failures(start):
    """Whatever users it names; but who has logged in from there before comes in, and so do other addresses."""
    broker = start(CLOSED + "auth_ban_failures 4\n", files=USERS)
    client_from(broker, "127.0.0.9").connect("known", user="one", password="secret")
    for i in range(4):
        client_from(broker, "127.0.0.9").connect(f"c{i}", user=f"user-{i}", password="wrong", expect=NOT_AUTHORISED)
    broker.wait_log(r"Logins from 127\.0\.0\.9 are refused for 300 seconds: too many failed\.")
    client_from(broker, "127.0.0.9").connect("c", user="two", password="secret", expect=NOT_AUTHORISED)
    client_from(broker, "127.0.0.9").connect("known", user="one", password="secret")
    client_from(broker, "127.0.0.8").connect("c", user="two", password="secret")


def test_a_verified_password_is_remembered_until_the_file_changes(start):
    broker = start(CLOSED + "sys_interval 1\n", files=USERS)
    passwd(broker.dir / "passwd", "slow", "old", "-H", "sha512-pbkdf2", "-I", "1000")
    broker.reload()
    for _ in range(3):
        broker.connect("c", user="slow", password="old").disconnect()
    broker.connect("c", user="one", password="secret").disconnect()
    counter(broker, "logins_cached", 3)  # slow twice, and the counter's own
    broker.client().connect("c", user="slow", password="wrong", expect=NOT_AUTHORISED)
    broker.reload()  # nothing has changed
    broker.connect("c", user="slow", password="old").ping()
    passwd(broker.dir / "passwd", "slow", "new", "-H", "sha512-pbkdf2", "-I", "1000")
    broker.reload()
    broker.client().connect("c", user="slow", password="old", expect=NOT_AUTHORISED)
    broker.connect("c", user="slow", password="new").ping()


def test_a_session_of_another_user_may_be_discarded(start):
    config = CLOSED + "discard_session_of_other_user true\n"
    broker = start(config, files=USERS)
    one = broker.connect("shared", clean=False, user="one", password="secret")
    one.subscribe(("t", 1))
    two = broker.client()
    assert not two.connect("shared", clean=False, user="two", password="secret")
    one.expect_closed()
    two.publish("t", "not for two", 1)
    two.ping()
    two.close()
    again = broker.client()
    assert not again.connect("shared", clean=False, user="one", password="secret")
    again.ping()
