"""The configuration as a whole: the paper's file, security settings per listener, include_dir, CRLF, setup."""

import os
import re
import shlex
import subprocess
import time

import pytest

import bramble
from bramble import free_port, passwd, run
from rawmqtt import BAD_ID, NOT_AUTHORISED, Client, connect
from streams import Closed, tcp


def test_the_papers_own_file(start, pki, tmp_path):
    """TLS on port 1883 with a password file; a user added while it runs. As in config/paper.conf, but for the port
    and the folder."""
    text = (bramble.TOP / "config" / "paper.conf").read_text()
    assert re.search(r"^listener 1883$", text, re.M)
    folder = tmp_path / "broker0"
    (folder / "certs").mkdir(parents=True)
    for name in ("ca.crt", "server.crt", "server.key"):
        (folder / "certs" / name).write_bytes((pki.dir / name).read_bytes())
    own = text.replace("listener 1883", "listener {tls}").replace("/etc/bramble", "{dir}")
    broker = start(own, files={"passwd": "one:secret"})
    broker.pki = pki
    broker.client("tls").connect("c", expect=NOT_AUTHORISED)
    broker.client("tls").connect("c", user="one", password="wrong", expect=NOT_AUTHORISED)
    client = broker.connect("c", "tls", user="one", password="secret")
    client.subscribe(("t", 1))
    passwd(folder / "passwd", "two", "secret")
    broker.reload()
    broker.connect("d", "tls", user="two", password="secret").publish("t", "x", 1)
    client.expect_message("t", "x", 1)
    plain = Client(tcp(broker.ports["tls"]))
    plain.send(connect("no TLS"))
    with pytest.raises((Closed, ConnectionError)):
        while plain.stream.recv(1000):  # perhaps an alert
            pass
        raise Closed


def test_general_settings_count_for_all_listeners(start):
    broker = start("""
        allow_anonymous false
        password_file {dir}/passwd
        listener {tcp} 127.0.0.1
        listener {tcp2} 127.0.0.1
        listener_allow_anonymous true
        """, files={"passwd": "one:secret"})
    broker.client("tcp").connect("c", expect=NOT_AUTHORISED)
    broker.connect("c", "tcp", user="one", password="secret")
    broker.connect("d", "tcp2")
    broker.client("tcp2").connect("e", user="one", password="wrong", expect=NOT_AUTHORISED)


def test_per_listener_settings(start):
    broker = start("""
        per_listener_settings true
        listener {tcp} 127.0.0.1
        password_file {dir}/passwd
        acl_file {dir}/acl
        listener {tcp2} 127.0.0.1
        allow_anonymous true
        allow_zero_length_clientid false
        listener {tcp3} 127.0.0.1
        """, files={"passwd": "one:secret", "acl": "user one\ntopic read #\n"})
    broker.client("tcp").connect("a", expect=NOT_AUTHORISED)
    reader = broker.connect("reader", "tcp", user="one", password="secret")
    reader.subscribe(("#", 1))
    reader.publish("t", "denied by the ACL of this listener", 1)
    broker.client("tcp2").connect("", expect=2)
    writer = broker.connect("writer", "tcp2")
    writer.publish("t", "allowed by the other one, which has none", 1)
    reader.expect_message("t", "allowed by the other one, which has none")
    broker.client("tcp3").connect("x", expect=NOT_AUTHORISED)  # nothing was said for it
    broker.client("tcp3").connect("x", user="one", password="secret", expect=NOT_AUTHORISED)


def test_include_dir(start):
    """In the order of names, only *.conf."""
    broker = start("allow_anonymous true\ninclude_dir {dir}/conf.d\n" + bramble.LISTENER["tcp"], files={
        "conf.d/10-first.conf": "auto_id_prefix first-\n",
        "conf.d/20-second.conf": "clientid_prefixes second-\nmessage_size_limit 10\n",
        "conf.d/30-off.conf.disabled": "nonsense\n",
        "conf.d/README": "nonsense\n",
        "conf.d/sub/40.conf": "nonsense\n",
    })
    broker.connect("second-1")
    broker.client().connect("third-1", expect=BAD_ID)


def test_crlf_tabs_and_no_newline_at_the_end(start):
    text = "# made elsewhere\r\n\r\nlistener {tcp} 127.0.0.1\r\n  allow_anonymous\t true  \r\nauto_id_prefix crlf-"
    broker = start(text + ("\r\nuser root" if os.geteuid() == 0 else ""), verbatim=True)
    broker.connect("")
    broker.wait_log("as crlf-[0-9A-F]")
    assert "\r" not in broker.log


def test_ignore_bridges(start):
    broker = start("ignore_bridges true\n" + bramble.LISTENER["tcp"] +
                   "connection upstream\naddress example.org:8883\ntopic # out 1\nremote_username me\n")
    broker.connect("c")
    broker.wait_log(r"bramble\.conf:3: Warning: The bridge that begins here is ignored")


def test_default_listener(start):
    """port, as in old files."""
    port = free_port()
    broker = start(f"port {port}\n")
    broker.ports["tcp"] = port
    broker.connect("c")


def test_accepted_but_meaningless_options_are_said(start):
    broker = start("autosave_interval 60\nretry_interval 20\n")
    broker.wait_log("Warning: .*autosave_interval")
    broker.wait_log("Warning: .*retry_interval")


# ---- bramble setup, and what `make run` does with it

def setup(folder, *options):
    ports = {name: free_port() for name in ("plain", "tls", "web")}
    while len(set(ports.values())) < 3:
        ports = {name: free_port() for name in ports}
    args = [arg for name, port in ports.items() for arg in (f"--{name}-port", str(port))]
    return run("setup", *args, *options, folder), ports


def test_setup_makes_a_broker(start, tmp_path):
    """The files, the words, and a daemon that runs with them: TLS, WebSocket, plain."""
    page = tmp_path / "page"
    page.mkdir()
    (page / "index.html").write_text("<!doctype html><title>page</title>")
    done, ports = setup(tmp_path / "run", "--http-dir", page)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "run"
    password = re.search(r"Password +(\S{12,})", done.stdout)[1]
    assert password not in "".join(p.read_text() for p in folder.iterdir() if p.is_file())
    for name in ("ca.key", "server.key", "passwd"):
        assert (folder / name).stat().st_mode & 0o077 == 0, name

    (folder / "conf.d" / "own.conf").write_text("log_type all\n")
    broker = start(None, args=["-c", folder / "bramble.conf"])
    broker.ports = {"tcp": ports["plain"], "tls": ports["tls"], "wss": ports["web"]}
    broker.pki = type("Made", (), {"ca": folder / "ca.crt"})
    for port in broker.ports:
        broker.client(port).connect("c", expect=NOT_AUTHORISED)
        broker.client(port).connect("c", user="admin", password="wrong", expect=NOT_AUTHORISED)
        broker.connect("c", port, user="admin", password=password).ping()

    lines = re.findall(r"^ +(mosquitto_(?:sub|pub) .*)$", done.stdout, re.M)
    assert len(lines) == 2
    with subprocess.Popen(shlex.split(lines[0]) + ["-C", "1"], stdout=subprocess.PIPE, text=True) as sub:
        try:
            broker.wait_log(r"test/#")  # it has subscribed
            assert subprocess.run(shlex.split(lines[1]), timeout=60, check=False).returncode == 0
            assert sub.communicate(timeout=60)[0] == "test/hello Hello, bramble\n"
        finally:
            sub.kill()

    again, _ = setup(folder)
    assert again.returncode == 0
    assert password not in again.stdout  # what is there stays
    broker.client("tcp").connect("c", user="admin", password=password)


def test_setup_says_what_to_do_when_ports_are_taken(start, tmp_path):
    broker = start()
    done = run("setup", "--plain-port", str(broker.ports["tcp"]), "--tls-port", str(free_port()), "--web-port",
               str(free_port()), tmp_path / "run")
    assert done.returncode == 1
    assert f"Port {broker.ports['tcp']} is taken" in done.stderr and "--plain-port" in done.stderr
    assert not (tmp_path / "run").exists()


def test_passwd_tool_and_daemon_agree(start):
    """Each kind of hash that the tool makes."""
    broker = start("password_file {dir}/passwd\n", files={"passwd": "zero:secret"})
    for user, options in {"one": ["-H", "argon2id"], "two": ["-H", "sha512-pbkdf2"], "three": ["-H", "sha512"]}.items():
        passwd(broker.dir / "passwd", user, "pass word ä", *options)
    broker.reload()
    for user in ("one", "two", "three"):
        broker.connect("c", user=user, password="pass word ä")
        broker.client().connect("c", user=user, password="pass word a", expect=NOT_AUTHORISED)
        broker.client().connect("c", user=user, password="", expect=NOT_AUTHORISED)
        broker.client().connect("c", user=user, expect=NOT_AUTHORISED)
    broker.client().connect("c", user="nobody", password="secret", expect=NOT_AUTHORISED)
    broker.client().connect("c", user="", password="secret", expect=NOT_AUTHORISED)


def test_logins_do_not_hold_the_loop(start):
    """argon2id takes long; meanwhile others go on."""
    broker = start("password_file {dir}/passwd\nlistener {tcp} 127.0.0.1\nlistener {tcp2} 127.0.0.1\n"
                   "listener_allow_anonymous true\nauth_threads 1\n", files={"passwd": "zero:secret"})
    passwd(broker.dir / "passwd", "one", "secret", "-H", "argon2id")
    broker.reload()
    other = broker.connect("other", "tcp2")
    clients = [broker.client() for _ in range(10)]
    for i, client in enumerate(clients):
        client.send(connect(f"c{i}", user="one", password="secret"))
    worst = 0
    for _ in range(50):
        started = time.monotonic()
        other.ping()
        worst = max(worst, time.monotonic() - started)
    for client in clients:
        client.connack()
    assert worst < 5


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n"])
def test_empty_file(tmp_path, text):
    path = tmp_path / "empty.conf"
    path.write_text(text)
    done = run("-t", "-c", path)
    assert done.returncode == 0 and "only clients on this machine can connect" in done.stderr
