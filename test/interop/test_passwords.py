"""Password files of mosquitto's tools at bramble, and of bramble's tool at mosquitto; mosquitto_pub logs in at both."""

import base64
import hashlib
import shutil
import subprocess
import time

import pytest

from bramble import LISTENER, free_port, run
from streams import tcp

CONFIG = "allow_anonymous false\npassword_file {dir}/passwd\n" + LISTENER["tcp"]
PASSWORD = "pass:wörd with blanks"


def mosquitto_passwd(*args):
    subprocess.run(["mosquitto_passwd", *map(str, args)], check=True, capture_output=True, timeout=60)


def login(port, user, password):
    """The exit status of mosquitto_pub is CONNACK's return code."""
    return subprocess.run(["mosquitto_pub", "-h", "127.0.0.1", "-p", str(port), "-t", "t", "-m", "x", "-q", "1", "-u", user,
                           "-P", password], capture_output=True, timeout=60, check=False).returncode


def check_logins(port, users, refused=5):
    for user, password in users.items():
        assert login(port, user, password) == 0, user
        assert login(port, user, password + "x") == refused, user
    assert login(port, "nobody", PASSWORD) == refused


def test_their_files_at_bramble(start, tmp_path):
    """Made with each of mosquitto_passwd's kinds, and by its -U from plain text; bramble's tool then changes the file."""
    path = tmp_path / "passwd"
    path.write_text("plain:secret\nplain two:secret2\n")
    mosquitto_passwd("-U", path)
    mosquitto_passwd("-b", path, "pbkdf2", PASSWORD)
    mosquitto_passwd("-H", "sha512", "-b", path, "sha512", PASSWORD)
    mosquitto_passwd("-b", path, "gone", "x")
    mosquitto_passwd("-D", path, "gone")
    assert sorted(line.split("$")[1] for line in path.read_text().split("\n") if "$" in line) == ["6", "7", "7", "7"]
    broker = start(CONFIG.replace("{dir}/passwd", str(path)))
    users = {"plain": "secret", "plain two": "secret2", "pbkdf2": PASSWORD, "sha512": PASSWORD}
    check_logins(broker.ports["tcp"], users)
    assert login(broker.ports["tcp"], "gone", "x") == 5
    assert run("passwd", "-b", path, "ours", PASSWORD).returncode == 0
    broker.reload()
    check_logins(broker.ports["tcp"], {**users, "ours": PASSWORD})


def coded(data):
    return base64.b64encode(data).decode()


def test_files_of_mosquitto_2_1_at_bramble(start, tmp_path):
    """Its mosquitto_passwd is not in the distribution. It makes salts and hashes of 64 bytes and, as argon2id, m=47104,
    t=1, p=1: this entry comes from the argon2 tool; the others are computed here."""
    salt, secret = bytes(range(64)), b"secret21"
    argon2id = ("$argon2id$v=19$m=47104,t=1,p=1$" + "U1NT" * 21 + "Uw$"
                "ULsBDK1BaYTy66ezqBwm+2lo/NtRXisKlGU5hKS+0htzuBrb7Dkz2mYtKJBbmRUHO5y7IvsKwpQ1mG+ygr6vFQ")
    pbkdf2 = f"$7$210000${coded(salt)}${coded(hashlib.pbkdf2_hmac('sha512', secret, salt, 210000))}"
    sha512 = f"$6${coded(salt)}${coded(hashlib.sha512(secret + salt).digest())}"
    path = tmp_path / "passwd"
    path.write_text(f"argon2id:{argon2id}\npbkdf2:{pbkdf2}\nsha512:{sha512}\n")
    broker = start(CONFIG.replace("{dir}/passwd", str(path)))
    check_logins(broker.ports["tcp"], {"argon2id": "secret21", "pbkdf2": "secret21", "sha512": "secret21"})


@pytest.fixture
def mosquitto(tmp_path):
    """The distribution's mosquitto with this password file; gives its port."""
    running = []

    def factory(path):
        port = free_port()
        conf = tmp_path / "mosquitto.conf"
        conf.write_text(f"listener {port} 127.0.0.1\nallow_anonymous false\nuser root\npassword_file {path}\n")
        running.append(subprocess.Popen([shutil.which("mosquitto") or "/usr/sbin/mosquitto", "-c", conf],
                                        stderr=subprocess.DEVNULL))
        while True:
            assert running[-1].poll() is None
            try:
                tcp(port).close()
                return port
            except OSError:
                time.sleep(0.01)

    yield factory
    for process in running:
        process.terminate()
        process.wait(60)


def test_our_files_at_mosquitto(mosquitto, tmp_path):
    path = tmp_path / "passwd"
    users = {"pbkdf2": PASSWORD, "few": PASSWORD, "sha512": PASSWORD, "changed": "second"}
    for options, user, password in ((["-c", "-H", "sha512-pbkdf2"], "pbkdf2", PASSWORD), (["-I", "101"], "few", PASSWORD),
                                    (["-H", "sha512"], "sha512", PASSWORD), (["-I", "101"], "changed", "first"),
                                    (["-I", "101"], "changed", "second")):
        done = run("passwd", *options, "-b", path, user, password)
        assert done.returncode == 0, done.stderr
    with open(path, "a", encoding="utf-8") as file:
        file.write("upgraded:secret\n")
    assert run("passwd", "-I", "101", "-U", path).returncode == 0
    check_logins(mosquitto(path), {**users, "upgraded": "secret"})
