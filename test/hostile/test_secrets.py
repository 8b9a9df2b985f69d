"""Secrets: nothing that is written holds one, and files with one are for their owner alone, or warned of.

A word that is nowhere else (CANARY) is put into passwords, keys and misplaced files; then everything that came out is
searched for it: logs of every type, log files, $SYS, what the tools print, and what they leave behind.
"""

import contextlib
import os
import re
import subprocess

import pytest

from bramble import LISTENER, Broker, Failed, free_port, passwd, run
from rawmqtt import ACCEPTED, BAD_ID, NOT_AUTHORISED, Will, connect, packet, publish
from streams import Closed

CANARY = "canary7Zq9x"
CONFIG = """allow_anonymous false
password_file {dir}/passwd
acl_file {dir}/acl
log_type all
log_dest stderr
log_dest file {dir}/log
log_dest topic
websockets_log_level 2047
listener {tcp} 127.0.0.1
listener {tls} 127.0.0.1
certfile {pki}/server.crt
keyfile {pki}/server.key
listener {ws} 127.0.0.1
protocol websockets
listener {wss} 127.0.0.1
protocol websockets
certfile {pki}/server.crt
keyfile {pki}/server.key
"""


def lines_of(path):
    """The lines of a key that are nothing but key."""
    return [line for line in path.read_text().split("\n") if line and "-----" not in line]


def quiet(text, *secrets):
    for secret in (CANARY, *secrets):
        assert secret not in text, f"{secret!r} in:\n{text}"


def log_in_every_way(broker, port):
    """Right, wrong, broken: the password in each."""
    broker.client(port).connect("c", user="one", password="wrong" + CANARY, expect=NOT_AUTHORISED)
    broker.client(port).connect("c", user="nobody", password=CANARY, expect=NOT_AUTHORISED)
    broker.client(port).connect("", clean=False, user="one", password=CANARY, expect=BAD_ID)
    good = broker.connect("c", port, user="one", password=CANARY, will=Will("w", "x"))
    good.subscribe("other/#")
    good.publish("t", "x", 2)
    good.close()
    whole = connect("c", user="one", password=CANARY)
    for damaged in (whole[:1] + bytes([whole[1] + 1]) + whole[2:] + b"\xff", whole[:-3] + b"\xff\xff\xff",
                    whole.replace(b"MQTT\4", b"MQTT\5"), whole.replace(b"MQTT", b"MQXX"), whole + whole,
                    publish("t", CANARY) + whole, whole[:20]):
        client = broker.client(port)
        client.send(damaged)
        if damaged != whole[:20]:
            with contextlib.suppress(Closed, ConnectionError):
                while client.next():
                    pass
        client.close()


def test_no_password_in_any_log(start, pki):
    broker = start(CONFIG, files={"passwd": f"one:{CANARY} watch:watch", "acl": "user one\ntopic readwrite #\nuser watch\n"
                                  "topic read $SYS/#\n"})
    watcher = broker.connect("watcher", user="watch", password="watch")
    watcher.subscribe("$SYS/#")
    entry = (broker.dir / "passwd").read_text()
    salts = re.findall(r"\$([A-Za-z0-9+/=]{10,})", entry)
    assert len(salts) >= 2
    for port in ("tcp", "tls"):
        log_in_every_way(broker, port)
    broker.client("ws").connect("c", user="one", password="wrong" + CANARY, expect=NOT_AUTHORISED)
    passwd(broker.dir / "passwd", "one", CANARY + "2")
    broker.reload()
    broker.client("wss").connect("c", user="one", password=CANARY, expect=NOT_AUTHORISED)
    broker.connect("last", "wss", user="one", password=CANARY + "2")
    watcher.send(packet(12, 0))
    topics = []
    while True:
        got = watcher.next()
        if got.kind == 13:
            break
        topics.append(f"{got.topic} {got.payload!r}")
    assert any("refused: wrong user name or password" in line for line in topics)
    broker.stop()
    keys = lines_of(pki.dir / "server.key")
    for text in (broker.log, (broker.dir / "log").read_text(), "\n".join(topics)):
        assert "refused: wrong user name or password" in text
        quiet(text, *salts, *keys)


MISPLACED = {
    "a password in plain text": f"one:{CANARY}\n",
    "a password without a colon": f"{CANARY}{CANARY}{CANARY}{CANARY}\n",
    "a hash": f"one:$7$101${CANARY}${CANARY}\n",
    "a hash with damage": f"one:$9$101${CANARY}\n",
    "half a key": f"{CANARY}+/{CANARY}{CANARY}{CANARY}{CANARY}\n",
    "a key": f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----\n",
    "a sealed key": f"-----BEGIN ENCRYPTED PRIVATE KEY-----\n{CANARY}\n-----END ENCRYPTED PRIVATE KEY-----\n",
}


@pytest.mark.parametrize("name", MISPLACED)
@pytest.mark.parametrize("what", ["passwd", "acl", "server.crt", "server.key", "ca.crt", "own.crl", "conf.d/x.conf", "bramble.conf"])
def test_a_secret_in_the_wrong_file(tmp_path, pki, what, name):
    """The error names file and line, not what stands there."""
    text = CONFIG.split("listener {ws}")[0].replace("{pki}", "{dir}") + ("cafile {dir}/ca.crt\ncrlfile {dir}/own.crl\n"
                                                                        "require_certificate true\ninclude_dir {dir}/conf.d\n")
    broker = Broker(tmp_path / "broker", text, pki, files={"passwd": "one:x", "acl": "topic read #\n", "conf.d/x.conf": "\n"})
    for part in ("ca.crt", "server.crt", "server.key"):
        (broker.dir / part).write_bytes((pki.dir / part).read_bytes())
    (broker.dir / "own.crl").write_text("x")
    (broker.dir / what).write_text(MISPLACED[name])
    done = run("-t", "-c", broker.path)
    assert done.returncode == 3 and what in done.stderr, done.stderr
    quiet(done.stdout + done.stderr)
    if name == "half a key":  # it is the same code
        with pytest.raises(Failed) as failed:
            broker.start()
        broker._notify.close()
        quiet(failed.value.text)


@pytest.mark.parametrize("lines", [f"connection x\naddress a\nremote_password {CANARY}\n", f"password {CANARY}\n",
                                   f"auth_opt_pg_password {CANARY}\n", f"plugin_opt_password {CANARY}\n", f"psk_file {CANARY}\n",
                                   f"pasword {CANARY}\n", f"tls_engine_kpass_sha1 {CANARY}\n", f"bridge_psk {CANARY}\n"])
def test_a_secret_in_the_configuration(tmp_path, lines):
    """mosquitto.conf may hold some; they are refused, or passed over with the bridge."""
    for before in ("", "ignore_bridges true\n"):
        path = tmp_path / "x.conf"
        path.write_text(before + "listener 1883 127.0.0.1\n" + lines)
        done = run("-t", "-c", path)
        quiet(done.stdout + done.stderr)
        assert "x.conf:" in done.stderr


def test_what_the_tools_print_and_leave(tmp_path):
    """No password but the one that setup shows once; no key; nothing of either in a file that others may read."""
    path = tmp_path / "passwd"
    for args in (("-c", "-b", path, "one", CANARY), ("-b", path, "two", CANARY), ("-b", path, "two:", CANARY),
                 ("-b", tmp_path / "no" / "x", "one", CANARY), ("-H", "nonsense", "-b", path, "one", CANARY)):
        done = run("passwd", *args)
        quiet(done.stdout + done.stderr)
    done = run("passwd", path, "three", stdin=CANARY + "\n")
    assert done.returncode == 0
    quiet(done.stdout + done.stderr + path.read_text())
    path.write_text(f"one:{CANARY}\ntwo:{CANARY}\n")
    assert run("passwd", "-U", path).returncode == 0
    quiet(path.read_text())
    path.write_text(f"one:{CANARY}\nbroken {CANARY}\n")
    done = run("passwd", "-U", path)
    assert done.returncode == 1
    quiet(done.stdout + done.stderr)
    assert run("cert", "init", tmp_path / "pki").returncode == 0
    for args in (("show", tmp_path / "pki" / "server.key"), ("server", tmp_path / "pki"), ("client", tmp_path / "pki", "meter")):
        done = run("cert", *args)
        for key in (tmp_path / "pki").glob("*.key"):
            quiet(done.stdout + done.stderr, *lines_of(key))


@pytest.mark.parametrize("mask", [0, 0o077])
def test_what_we_write_is_for_the_owner(tmp_path, mask):
    """Whatever the umask is: 0600 for keys and passwords, also when they are written again."""
    before = os.umask(mask)
    try:
        passwd(tmp_path / "passwd", "one", "secret")
        passwd(tmp_path / "passwd", "two", "secret")
        assert run("cert", "init", tmp_path / "pki").returncode == 0
        assert run("cert", "client", tmp_path / "pki", "meter").returncode == 0
        assert run("cert", "server", tmp_path / "pki").returncode == 0
        ports = [a for name in ("plain", "tls", "web") for a in (f"--{name}-port", free_port())]
        assert run("setup", *ports, tmp_path / "run").returncode == 0
    finally:
        os.umask(before)
    secret = [p for p in tmp_path.rglob("*") if p.name == "passwd" or p.suffix == ".key"]
    assert len(secret) >= 7
    for path in secret:
        assert path.stat().st_mode & 0o777 == 0o600, path
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700


def test_a_new_password_file_in_the_place_of_an_open_one(tmp_path):
    """-c takes it away from everybody else; without it the mode is the owner's business, and warned of."""
    path = tmp_path / "passwd"
    path.touch(0o644)
    path.chmod(0o646)
    assert run("passwd", "-c", "-b", path, "one", "secret").returncode == 0
    assert path.stat().st_mode & 0o777 == 0o640


def test_log_and_pid_file(start):
    """Client ids and user names are not for everybody either."""
    before = os.umask(0)
    try:
        broker = start("log_dest file {dir}/log\nlog_dest stderr\npid_file {dir}/pid\n")
    finally:
        os.umask(before)
    assert (broker.dir / "log").stat().st_mode & 0o777 == 0o640
    assert (broker.dir / "pid").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("mode, said", [(0o644, "every user of this machine can read this file"), (0o600, None), (0o640, None),
                                        (0o666, "every user of this machine can change this file")])
def test_password_file_for_everybody(start, mode, said):
    broker = start("password_file {dir}/passwd\nallow_anonymous false\n" + LISTENER["tcp"], files={"passwd": "one:secret"})
    (broker.dir / "passwd").chmod(mode)
    at = len(broker.log)
    broker.reload()
    broker.wait_log("Reloaded")
    if said:
        assert f"passwd: {said}" in broker.log[at:]
    else:
        assert "every user" not in broker.log[at:]
    done = run("-t", "-c", broker.path)
    assert ("every user" in done.stderr) == bool(said)
    done = run("passwd", "-b", broker.dir / "passwd", "two", "secret")
    assert ("every user" in done.stderr) == bool(said)


def test_acl_and_key_for_everybody(start, pki, tmp_path):
    key = tmp_path / "open.key"
    key.write_bytes((pki.dir / "server.key").read_bytes())
    key.chmod(0o644)
    broker = start("acl_file {dir}/acl\nlistener {tls} 127.0.0.1\ncertfile {pki}/server.crt\n" + f"keyfile {key}\n",
                   files={"acl": "topic read #\n"})
    broker.wait_log(rf"bramble.conf:2: keyfile {key}: every user of this machine may read it: chmod 600 it")
    assert "acl: every user" not in broker.log  # it holds no secret; but:
    (broker.dir / "acl").chmod(0o666)
    broker.reload()
    broker.wait_log("acl: every user of this machine can change this file")


def test_no_secret_in_the_arguments(start):
    """Other users see them: the daemon takes none, and `passwd` asks."""
    broker = start("password_file {dir}/passwd\n", files={"passwd": f"one:{CANARY}"})
    broker.connect("c", user="one", password=CANARY)
    quiet(open(f"/proc/{broker.pid}/cmdline", encoding="utf-8").read())
    quiet(open(f"/proc/{broker.pid}/environ", encoding="utf-8").read())
    done = subprocess.run(["ps", "-o", "args=", "-p", str(broker.pid)], capture_output=True, text=True, check=True)
    quiet(done.stdout)
    assert broker.client().connect("d", user="one", password=CANARY, expect=ACCEPTED) is False
