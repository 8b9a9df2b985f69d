"""The command line, configuration errors, and starts that fail."""

import os
import re
import signal
import socket
import stat
import time
from pathlib import Path

import pytest

import bramble
from bramble import Failed, free_port, run
from streams import tcp


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(option):
    done = run(option)
    assert done.returncode == 0
    for name in ("-c", "-p", "-d", "-v", "-t", "--test-config"):
        assert name in done.stdout
    assert not done.stderr


@pytest.mark.parametrize("args", [["-x"], ["--nonsense"], ["-p"], ["-c"], ["-p", "0"], ["-p", "65536"], ["-p", "12ab"],
                                  ["-p", ""], ["extra"], ["-t"], ["-p", "1883", "-p", "1884"]])
def test_wrong_arguments(args):
    done = run(*args)
    assert done.returncode == 3
    assert done.stderr.startswith("bramble: Error: ") and not done.stdout


def test_port_without_file(start):
    """-p and no -c: loopback only, anonymous clients, and it says so."""
    port = free_port()
    broker = start(None, args=["-p", port])
    broker.ports["tcp"] = port
    broker.connect("c").publish("t", "x", 1)
    broker.wait_log("only clients on this machine can connect")
    listening = listening_addresses(port)
    assert listening and listening <= {"127.0.0.1", "::1"}
    client = bramble.Client(tcp(port, "::1" if socket.has_ipv6 else "127.0.0.1"))
    client.connect("6")


def listening_addresses(port):
    """Of TCP sockets in /proc."""
    found = set()
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path("/proc/net", name).read_text().splitlines()[1:]:
            address, state = line.split()[1], line.split()[3]
            if int(address.split(":")[1], 16) == port and state == "0A":
                words = bytes.fromhex(address.split(":")[0])
                found.add(socket.inet_ntop(family, b"".join(words[i:i + 4][::-1] for i in range(0, len(words), 4))))
    return found


def test_port_and_file(start):
    """-p is for the default listener; a file with a listener wins."""
    port = free_port()
    broker = start("max_inflight_messages 5\n", args=["-p", port])  # start() adds a listener
    assert not listening_addresses(port)
    broker.wait_log(f"'-p {port}' is ignored")
    broker = start("sys_interval 0\n" + ("user root\n" if os.geteuid() == 0 else ""), verbatim=True, args=["-p", port])
    broker.ports["tcp"] = port
    broker.connect("c")


def test_verbose_and_quiet(start):
    broker = start("log_type none\n", args=["-v"])
    broker.connect("c").subscribe(("a/b", 1))
    broker.wait_log("c 1 a/b")
    quiet = start("log_type all\n", args=["-q"])
    quiet.connect("c").disconnect()
    quiet.stop()
    assert quiet.log == ""


# ---- errors in the file

ERRORS = {
    "unknown name": ("max_inflight_messages 5\nno_such_option 7\n", 2, "no_such_option"),
    "misspelt": ("\n\n# comment\nmax_inflight_mesages 5\n", 4, "max_inflight_messages"),
    "no number": ("max_inflight_messages many\n", 1, "max_inflight_messages"),
    "out of bounds": ("sys_interval -1\n", 1, "sys_interval"),
    "no boolean": ("allow_anonymous perhaps\n", 1, "allow_anonymous"),
    "no value": ("acl_file\n", 1, "acl_file"),
    "port": ("listener 99999\n", 1, "listener"),
    "log_dest": ("log_dest paper\n", 1, "log_dest"),
    "key missing": ("listener 1883\ncertfile x.crt\n", 2, "keyfile"),
    "a plugin": ("auth_plugin /usr/lib/x.so\n", 1, "password_file"),
    "a bridge": ("connection one\naddress example.org\n", 1, "ignore_bridges"),
    "persistence": ("\npersistence_sync never\n", 2, "full, normal or off"),
    "certificates required without a CA": ("listener 1883\ncertfile a\nkeyfile b\nrequire_certificate true\n", 4, "cafile"),
    "the same port twice": ("listener 1883 127.0.0.1\nlistener 1883 127.0.0.1\n", 2, "same port"),
    "per_listener_settings too late": ("allow_anonymous true\nper_listener_settings true\n", 2, "per_listener_settings"),
    "zero byte": ("allow_anonymous tr\0ue\n", 1, ""),
}


@pytest.mark.parametrize("what", ERRORS)
@pytest.mark.parametrize("checking", [False, True])
def test_configuration_errors(tmp_path, what, checking):
    """Status 3, quickly, with the place and a word that helps; with -t and without."""
    text, line, word = ERRORS[what]
    path = tmp_path / "bad.conf"
    path.write_text(text)
    started = time.monotonic()
    done = run("-c", path, *(["--test-config"] if checking else []))
    took = time.monotonic() - started
    assert done.returncode == 3
    assert f"{path}:{line}: Error: " in done.stderr
    assert word in done.stderr
    assert took < (5 if bramble.SANITIZED else 1)


@pytest.mark.parametrize("text,name", [
    ("password_file {dir}/none\n", "none"),
    ("acl_file {dir}/none\n", "none"),
    ("listener {tcp}\ncertfile {dir}/none.crt\nkeyfile {dir}/none.key\n", "none"),
    ("include_dir {dir}/none\n", "none"),
    ("password_file {dir}/wrong\n", "wrong:2"),
    ("acl_file {dir}/wrong\n", "wrong:2"),
    ("listener {tcp}\ncertfile {dir}/wrong\nkeyfile {dir}/wrong\n", "wrong"),
    ("include_dir {dir}/conf.d\n", "conf.d/10.conf:1"),
    ("persistence true\npersistence_location {dir}/none\n", "none: No such file"),
    ("persistence true\npersistence_location {dir}/wrong\n", "wrong: it is no directory"),
])
@pytest.mark.parametrize("checking", [False, True])
def test_errors_in_files_that_are_named(start, tmp_path, text, name, checking):
    folder = tmp_path / "broker0"
    folder.mkdir()
    (folder / "wrong").write_text("# comment\nthis is wrong in every way\n")
    (folder / "conf.d").mkdir()
    (folder / "conf.d" / "10.conf").write_text("nonsense 7\n")
    with pytest.raises(Failed) as failed:
        start(text, args=["-t"] if checking else [])
    assert failed.value.status == 3
    assert f"{folder}/{name}" in failed.value.text


def test_missing_file():
    done = run("-c", "/nonexistent/x.conf")
    assert done.returncode == 3
    assert "/nonexistent/x.conf" in done.stderr and "No such file" in done.stderr


@pytest.mark.parametrize("option", ["-t", "--test-config"])
def test_good_file(tmp_path, option):
    """It is only looked at: the port is taken, and nothing is written."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        path = tmp_path / "good.conf"
        path.write_text(f"listener {taken.getsockname()[1]} 127.0.0.1\nallow_anonymous true\n"
                        f"pid_file {tmp_path}/pid\nlog_dest file {tmp_path}/log\n")
        done = run("-c", path, option)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["good.conf"]


def test_sample_files_are_understood(tmp_path, pki):
    """All of config/*.conf, with the paths of this test."""
    (tmp_path / "certs").mkdir()
    for name in ("ca.crt", "server.crt", "server.key"):
        (tmp_path / "certs" / name).write_bytes((pki.dir / name).read_bytes())
    bramble.passwd(tmp_path / "passwd", "admin", "x")
    (tmp_path / "acl").write_text("user admin\ntopic readwrite #\n")
    samples = list((bramble.TOP / "config").glob("*.conf"))
    assert samples
    for sample in samples:
        text = sample.read_text().replace("/etc/bramble", str(tmp_path))
        for folder in ("/usr/share/bramble/dashboard", "/var/lib/bramble"):
            text = text.replace(folder, str(tmp_path))
        (tmp_path / sample.name).write_text(text)
        done = run("-t", "-c", tmp_path / sample.name)
        assert done.returncode == 0, f"{sample}: {done.stderr}"


# ---- starts that fail

def test_port_taken(start):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Failed) as failed:
            start(f"# first line\nlistener {port} 127.0.0.1\n")
    assert failed.value.status == 1
    assert re.search(rf"bramble\.conf:2: Error: .*127\.0\.0\.1 port {port}: Address already in use.*choose another port",
                     failed.value.text)


def test_address_of_another_machine(start):
    with pytest.raises(Failed) as failed:
        start("listener {tcp} 192.0.2.1\n")
    assert failed.value.status == 1
    assert "192.0.2.1" in failed.value.text and "does not have that address" in failed.value.text


def test_user_must_exist(start):
    if os.geteuid() != 0:
        pytest.skip("only root changes its user")
    with pytest.raises(Failed) as failed:
        start("user no-such-user-here\n")
    assert failed.value.status == 1
    assert "no-such-user-here" in failed.value.text


def test_root_is_given_up(start):
    if os.geteuid() != 0:
        pytest.skip("only root changes its user")
    broker = start("user nobody\n")
    broker.connect("c")
    fields = dict(line.split(":\t", 1) for line in Path(f"/proc/{broker.pid}/status").read_text().splitlines() if ":\t" in line)
    assert "0" not in fields["Uid"].split() and "0" not in fields["Gid"].split()
    assert int(fields["CapEff"], 16) == 0


# ---- in the background

def test_daemon_and_pid_file(tmp_path):
    """-d returns when it is ready; the pid file has its number and goes with it."""
    port = free_port()
    pid_file = tmp_path / "pid"
    config = tmp_path / "d.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npid_file {pid_file}\nuser root\n"
                      f"log_dest file {tmp_path}/log\n")
    done = run("-d", "-c", config)
    assert done.returncode == 0, done.stderr
    pid = int(pid_file.read_text())
    handle = os.pidfd_open(pid)
    try:
        assert stat.S_IMODE(pid_file.stat().st_mode) & 0o022 == 0
        client = bramble.Client(tcp(port))  # no waiting: -d has
        client.connect("c")
        assert os.getsid(pid) != os.getsid(0)
        for fd in (0, 1, 2):
            assert os.readlink(f"/proc/{pid}/fd/{fd}") == "/dev/null"
    finally:
        os.kill(pid, signal.SIGTERM)
        bramble.select.select([handle], [], [], bramble.TIMEOUT)
        os.close(handle)
    assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1]
    assert not pid_file.exists()
    assert "terminating" in (tmp_path / "log").read_text()


def test_daemon_errors_reach_the_terminal(tmp_path):
    config = tmp_path / "d.conf"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config.write_text(f"listener {taken.getsockname()[1]} 127.0.0.1\n")
        done = run("-d", "-c", config)
    assert done.returncode == 1
    assert "Address already in use" in done.stderr
