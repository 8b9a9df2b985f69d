"""SIGHUP: what changes, who is disconnected, and what a bad file does (nothing)."""

import pytest

from bramble import LISTENER, Pki, passwd, run
from rawmqtt import ACCEPTED, CONNACK, NOT_AUTHORISED, TIMEOUT, connect

WITH_PASSWORDS = "listener {tcp} 127.0.0.1\nallow_anonymous false\npassword_file {dir}/passwd\n"


@pytest.fixture
def with_users(start):
    """A broker with the users one and two."""
    return start(WITH_PASSWORDS, files={"passwd": "one:secret two:secret"})


def test_added_user(with_users):
    with_users.client().connect("c", user="three", password="secret", expect=5)
    stays = with_users.connect("stays", user="one", password="secret")
    passwd(with_users.dir / "passwd", "three", "secret")
    with_users.reload()
    with_users.connect("c", user="three", password="secret")
    stays.ping()


def test_removed_user(with_users):
    """Its client is disconnected, the others keep their connection."""
    one = with_users.connect("one", user="one", password="secret", clean=False)
    two = with_users.connect("two", user="two", password="secret")
    two.subscribe(("t", 1))
    assert run("passwd", "-D", with_users.dir / "passwd", "one").returncode == 0
    with_users.reload()
    one.expect_closed()
    with_users.wait_log("Client one .*removed or its password changed")
    two.publish("t", "x", 1)
    two.expect_message("t", "x")
    with_users.client().connect("one", user="one", password="secret", expect=5)


def test_changed_password(with_users):
    client = with_users.connect("c", user="one", password="secret")
    passwd(with_users.dir / "passwd", "one", "new secret")
    with_users.reload()
    client.expect_closed()
    with_users.client().connect("c", user="one", password="secret", expect=5)
    with_users.connect("c", user="one", password="new secret")


def test_changed_password_while_it_is_checked(start, tmp_path):
    """A check that began with the old password file lets nobody in after the reload. (Who was let in before it is ended.)"""
    passwd(tmp_path / "users", "one", "secret", "-H", "sha512-pbkdf2", "-I", "300000")
    passwd(tmp_path / "new", "one", "new secret")
    broker = start(f"allow_anonymous false\nauth_threads 1\nauth_timeout 3600\npassword_file {tmp_path}/users\n")
    clients = [broker.client() for _ in range(8)]
    for i, client in enumerate(clients):
        client.send(connect(f"c{i}", user="one", password="secret"))
    (tmp_path / "new").rename(tmp_path / "users")
    broker.reload()
    for client in clients:
        client.stream.patience(10 * TIMEOUT)
        code = client.expect(CONNACK).body[1]
        assert code in (ACCEPTED, NOT_AUTHORISED)
        if code == ACCEPTED:
            client.expect_closed()
    broker.stop()
    assert "New client connected" not in broker.log.partition("Reloaded.")[2]


@pytest.mark.parametrize("fields", [{"user": "one", "password": "wrong"}, {"user": "nobody", "password": "wrong"}, {}])
def test_a_reload_does_not_answer_failed_logins(start, fields):
    """It would say which user names there are. And there is no right that could be revoked."""
    broker = start(WITH_PASSWORDS + "auth_fail_delay 1000\naccess_log_file {dir}/access\n", files={"passwd": "one:secret"})
    client = broker.client()
    client.send(connect("c", **fields))
    broker.wait_log("Client c .* refused: ")
    broker.reload()
    client.connack(NOT_AUTHORISED)
    broker.stop()
    assert "revoked" not in (broker.dir / "access").read_text()


def test_anonymous_no_longer_allowed(with_users):
    """From the start of this test on, and back again."""
    with_users.configure(WITH_PASSWORDS.replace("false", "true"))
    with_users.reload()
    anonymous = with_users.connect("nobody")
    one = with_users.connect("one", user="one", password="secret")
    with_users.configure(WITH_PASSWORDS)
    with_users.reload()
    anonymous.expect_closed()
    one.ping()
    with_users.client().connect("nobody", expect=5)


@pytest.mark.parametrize("damage", ["password_file", "acl_file", "both", "configuration", "acl_file, new limits", "missing"])
def test_bad_file_keeps_the_last_good_state(start, damage):
    broker = start(WITH_PASSWORDS + "acl_file {dir}/acl\n",
                   files={"passwd": "one:secret", "acl": "user one\ntopic readwrite t\n"})
    folder = broker.dir
    client = broker.connect("c", user="one", password="secret")
    client.subscribe(("#", 1))
    passwd(folder / "passwd", "two", "secret")  # good, but not to be taken over alone
    if damage in ("password_file", "both"):
        with open(folder / "passwd", "a", encoding="utf-8") as file:
            file.write("nonsense\n")
    if damage.startswith("acl_file") or damage == "both":
        (folder / "acl").write_text("user one\ntopic readwrite #\ntopics t\n")
    if damage == "acl_file, new limits":  # a good configuration is not taken over alone either
        broker.path.write_text(broker.path.read_text() + "message_size_limit 1\n")
    elif damage == "configuration":
        broker.path.write_text(broker.path.read_text() + "nonsense true\n")
    elif damage == "missing":
        (folder / "passwd").unlink()
    broker.reload()
    broker.wait_log("Reload failed: everything stays as it was")
    assert f"{folder}/" in broker.log.split("SIGHUP")[1]
    client.publish("other", "still forbidden", 1)
    client.publish("t", "still allowed", 1)
    client.expect_message("t", "still allowed")
    broker.connect("d", user="one", password="secret")
    broker.client().connect("e", user="two", password="secret", expect=5)


def test_changed_options(start):
    """Limits count for what comes next; connections stay."""
    broker = start("message_size_limit 10\n")
    client = broker.connect("c")
    client.subscribe(("t", 0))
    client.publish("t", "x" * 11, 1)
    client.expect_nothing()
    broker.configure(f"message_size_limit 100\nlistener {broker.ports['tcp']} 127.0.0.1\nallow_anonymous true\n")
    broker.reload()
    client.publish("t", "x" * 11, 1)
    client.expect_message("t", "x" * 11)
    client.publish("t", "x" * 101, 1)
    client.expect_nothing()


def test_changed_acl(start):
    broker = start("acl_file {dir}/acl\n", files={"acl": "topic readwrite a\n"})
    client = broker.connect("c")
    client.subscribe(("#", 1))
    client.publish("a", "1", 1)
    client.expect_message("a", "1")
    broker.write("acl", "topic readwrite b\n")
    broker.reload()
    client.publish("a", "2", 1)
    client.publish("b", "3", 1)
    client.expect_message("b", "3")
    client.expect_nothing()


def test_changed_acl_of_what_was_wholly_allowed(start):
    """A subscription is asked for once, where all that it matches may be read; each reload asks again."""
    broker = start("acl_file {dir}/acl\n", files={"acl": "topic readwrite #\n"})
    writer, client, kept = broker.connect("writer"), broker.connect("c"), broker.connect("kept", clean=False)
    for one in (client, kept):
        one.subscribe(("a/+", 1), ("a/x", 0), ("b", 1))
    for rules, readable in (("topic readwrite #\n", "a/x a/y b"), ("topic readwrite #\ntopic deny a/x\n", "a/y b"),
                            ("topic write #\ntopic read a/x\n", "a/x"), ("topic write #\npattern read a/%c\n", ""),
                            ("topic readwrite #\n", "a/x a/y b")):
        broker.write("acl", rules)
        broker.reload()
        for topic in ("a/x", "a/y", "b"):
            writer.publish(topic, rules, 1)
        for topic in readable.split():
            client.expect_message(topic, rules)
            kept.expect_message(topic, rules)
        client.expect_nothing()
        kept.expect_nothing()


def test_subscription_no_longer_allowed(start):
    """`topic subscribe` at a reload: what no longer lies within one ends, and does not come back with the old rules."""
    broker = start("acl_file {dir}/acl\n", files={"acl": "topic readwrite #\n"})
    writer, client = broker.connect("writer"), broker.connect("c")
    client.subscribe(("#", 1), ("a/+", 1), ("b", 0))
    broker.write("acl", "topic readwrite #\ntopic subscribe a/#\n")
    broker.reload()
    broker.wait_log(r"The subscription of c to '#' has ended: it is no longer allowed\.")
    broker.wait_log(r"The subscription of c to 'b' has ended: it is no longer allowed\.")
    broker.write("acl", "topic readwrite #\n")
    broker.reload()
    for topic in ("a/x", "b", "c"):
        writer.publish(topic, "x", 1)
    client.expect_message("a/x", "x", qos=1)
    client.expect_nothing()
    assert "to 'a/+' has ended" not in broker.log


def test_rights_of_another_listener(start):
    """A kept session that comes back by a listener with other rules has those."""
    broker = start("per_listener_settings true\nlistener {tcp} 127.0.0.1\nallow_anonymous true\nacl_file {dir}/all\n"
                   "listener {tcp2} 127.0.0.1\nallow_anonymous true\nacl_file {dir}/some\n",
                   files={"all": "topic readwrite #\n", "some": "topic readwrite open/#\n"})
    writer = broker.connect("writer")
    for port, count in (("tcp", 2), ("tcp2", 1), ("tcp", 2)):
        client = broker.connect("c", port, clean=False)
        client.subscribe(("#", 1))
        writer.publish("secret/x", "1", 1)
        writer.publish("open/x", "2", 1)
        if count == 2:
            client.expect_message("secret/x", "1")
        client.expect_message("open/x", "2")
        client.expect_nothing()
        client.disconnect()


def test_changed_listeners_need_a_restart(start):
    broker = start()
    client = broker.connect("c")
    old = broker.ports["tcp"]
    broker.configure("listener {tcp} 127.0.0.1\nlistener {tcp2} 127.0.0.1\nmessage_size_limit 10\n")
    broker.reload()
    broker.wait_log("restart")
    client.ping()
    assert broker.ports["tcp"] == old
    broker.connect("d").ping()
    with pytest.raises(ConnectionRefusedError):
        broker.stream("tcp2")


def test_options_that_need_a_restart_are_said(start):
    broker = start("auth_threads 1\n")
    broker.configure(f"auth_threads 2\nlistener {broker.ports['tcp']} 127.0.0.1\n")
    broker.reload()
    broker.wait_log("auth_threads takes effect at a restart only")


@pytest.mark.parametrize("port", ["tls", "wss"])
def test_changed_certificate(start, tmp_path, port):
    """New connections get the new one; old ones go on."""
    own = Pki(tmp_path / "own")
    broker = start(LISTENER[port].replace("{pki}", str(own)))
    broker.pki = own

    def fingerprint():
        stream = broker.stream(port)
        below = stream.below if port == "wss" else stream
        seen = below.sock.getpeercert(binary_form=True)
        stream.close()
        return seen

    client = broker.connect("c", port)
    before = fingerprint()
    assert fingerprint() == before
    own.make("server", "--name", "localhost")
    broker.reload()
    assert fingerprint() != before
    client.ping()


def test_unreadable_certificate_keeps_the_old_one(start, tmp_path):
    own = Pki(tmp_path / "own")
    broker = start(LISTENER["tls"].replace("{pki}", str(own)))
    broker.pki = own
    (own.dir / "server.crt").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    broker.reload()
    broker.wait_log("Reload failed")
    broker.connect("c", "tls").ping()


def test_key_that_does_not_fit_keeps_the_old_pair(start, tmp_path):
    own = Pki(tmp_path / "own")
    broker = start(LISTENER["tls"].replace("{pki}", str(own)))
    broker.pki = own
    (own.dir / "server.key").write_bytes(own.client("another")[1].read_bytes())
    broker.reload()
    broker.wait_log("Reload failed")
    broker.connect("c", "tls").ping()


def test_many_reloads_under_load(start):
    """Nothing leaks and nobody is dropped."""
    broker = start("acl_file {dir}/acl\n" + LISTENER["tcp"] + LISTENER["tls"],
                   files={"acl": "".join(f"topic readwrite t/{i}\n" for i in range(500))})
    clients = [broker.connect(f"c{i}", "tcp" if i % 2 else "tls") for i in range(10)]
    for client in clients:
        client.subscribe(("t/#", 1))
    broker.reload()
    before = broker.descriptors()
    for i in range(20):
        broker.reload()
        clients[i % 10].publish(f"t/{i}", "x")
        for client in clients:
            client.expect_message(f"t/{i}", "x")
    assert broker.descriptors() <= before
