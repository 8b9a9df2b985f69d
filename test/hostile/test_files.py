"""Files that are damaged, huge, or no files at all: at start, in --test-config, at SIGHUP and in the tools.

Each is refused with the place in the configuration, the name and the reason; a daemon that runs goes on as it was, with
everybody who is connected, and does not grow. test/unit sweeps over every byte of such files (sweep.h).
"""

import os
import re
import stat
import subprocess
import time

import pytest

from bramble import CERTIFICATE, LISTENER, SANITIZED, Broker, Failed, passwd, run
from rawmqtt import NOT_AUTHORISED

MB = 1 << 20
OURS = {"user": "one", "password": "secret"}
ENDS = r"Reloaded\.|verything stays as it was"
FILES = {"passwd": "one:secret", "acl": "user one\ntopic readwrite #\n", "conf.d/own.conf": "max_keepalive 1000\n",
         "page/index.html": "x"}
NAMES = {"configuration": "bramble.conf", "include": "conf.d/own.conf", "include_dir": "conf.d", "password_file": "passwd",
         "acl_file": "acl", "certfile": "server.crt", "keyfile": "server.key", "cafile": "ca.crt", "crlfile": "own.crl",
         "http_dir": "page"}
CONFIG = """allow_anonymous false
password_file {dir}/passwd
acl_file {dir}/acl
include_dir {dir}/conf.d
listener {tcp} 127.0.0.1
listener {tls} 127.0.0.1
certfile {dir}/server.crt
keyfile {dir}/server.key
cafile {dir}/ca.crt
crlfile {dir}/own.crl
require_certificate true
use_identity_as_username true
listener {wss} 127.0.0.1
protocol websockets
certfile {dir}/server.crt
keyfile {dir}/server.key
http_dir {dir}/page
"""


@pytest.fixture(scope="session")
def crl(pki, tmp_path_factory):
    """An empty revocation list of the tests' CA."""
    folder = tmp_path_factory.mktemp("crl")
    (folder / "index").touch()
    (folder / "conf").write_text(f"[ca]\ndefault_ca=x\n[x]\ndatabase={folder}/index\ndefault_md=sha256\n")
    path = folder / "own.crl"
    subprocess.run(["openssl", "ca", "-config", folder / "conf", "-cert", pki.ca, "-keyfile", pki.dir / "ca.key", "-gencrl",
                    "-crldays", "30", "-out", path], check=True, capture_output=True)
    return path.read_bytes()


@pytest.fixture
def whole(tmp_path, pki, crl):
    """A daemon, not started, all of whose files are in its folder."""
    broker = Broker(tmp_path / "broker", CONFIG, pki, files=FILES)
    for name in ("ca.crt", "server.crt", "server.key"):
        (broker.dir / name).write_bytes((pki.dir / name).read_bytes())
    (broker.dir / "own.crl").write_bytes(crl)
    (broker.dir / "server.key").chmod(0o600)
    yield broker
    broker.stop()
    broker.kill()


# ---- the ways to be no good file; each gets the path and what was there

def absent(path, _data):
    path.unlink()


def folder(path, _data):
    path.unlink()
    path.mkdir()


def pipe(path, _data):
    """Nobody writes into it: who opens it for reading waits for ever."""
    path.unlink()
    os.mkfifo(path)


def loop(path, _data):
    path.unlink()
    path.symlink_to(path.name)


def dangling(path, _data):
    path.unlink()
    path.symlink_to("nowhere")


def device(path, _data):
    """Endless zeros."""
    path.unlink()
    path.symlink_to("/dev/zero")


def own_memory(path, _data):
    path.unlink()
    path.symlink_to("/proc/self/mem")


def cut(path, data):
    path.write_bytes(data[:len(data) * 2 // 3])


def zeros(path, data):
    """Where a power cut took the contents."""
    path.write_bytes(bytes(len(data)))


def zero_inside(path, data):
    path.write_bytes(data[:len(data) // 2] + b"\0" + data[len(data) // 2:])


def noise(path, _data):
    path.write_bytes(bytes(i * i * 7 + i >> 3 & 255 for i in range(65536)))


def long_line(path, data):
    path.write_bytes(data + b"x" * MB + b"\n")


def no_line(path, _data):
    path.write_bytes(b"x" * (5 * MB))


def huge(path, data):
    """Nine gigabytes, of which a disk keeps only the beginning."""
    path.write_bytes(data)
    os.truncate(path, 9 << 30)


TEXTS = ("configuration", "include", "password_file", "acl_file")
PEMS = ("certfile", "keyfile", "cafile", "crlfile")
KINDS = {(what, damage) for damage in (absent, folder, pipe, loop, dangling, device, own_memory, zeros, zero_inside, noise,
                                       long_line, no_line, huge) for what in TEXTS + PEMS}
KINDS |= {(what, cut) for what in ("password_file", *PEMS)}  # a shorter configuration or acl_file may be a good one
KINDS -= {("include", absent)}  # one file fewer in the folder
KINDS -= {(what, long_line) for what in PEMS}  # text around the blocks is allowed there


def apply(broker, what, damage):
    """Damages the file and gives a function that mends it."""
    path = broker.dir / NAMES[what]
    good = path.read_bytes()
    mode = path.stat().st_mode
    damage(path, good)

    def mend():
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
        path.write_bytes(good)
        path.chmod(mode)
    return mend


def check_reason(text, broker, what):
    """The line that says why: a place in the configuration, the directive, the path."""
    path = broker.dir / NAMES[what]
    lines = [line for line in text.split("\n") if "Error: " in line and str(path) in line]
    assert lines, text
    line = re.sub(r"^\d+: ", "", lines[-1])
    assert len(line) < 1000 and "\x1b" not in line
    if what in TEXTS[:2]:
        assert re.match(re.escape(str(path)) + r"(:\d+)?: Error: .", line), line
    else:
        assert re.match(re.escape(str(broker.path)) + r":\d+: Error: " + what + r":? .", line), line
        number = int(re.search(r":(\d+): Error", line)[1])
        directive = what if what in TEXTS else "listener"
        assert directive in broker.path.read_text().split("\n")[number - 1], line


def ids(value):
    return value if isinstance(value, str) else value.__name__


@pytest.mark.parametrize("what", TEXTS + PEMS)
def test_refused_at_start_and_by_test_config(whole, what):
    assert run("-t", "-c", whole.path).returncode == 0
    for damage in sorted((damage for name, damage in KINDS if name == what), key=ids):
        mend = apply(whole, what, damage)
        done = run("-t", "-c", whole.path)
        failed = None
        if damage in (absent, pipe, noise):  # it is the same code
            with pytest.raises(Failed) as failed:
                whole.start()
            whole._notify.close()
        mend()
        assert done.returncode == 3, f"{damage.__name__}: {done.stderr}"
        check_reason(done.stderr, whole, what)
        if failed:
            assert failed.value.status == 3, f"{damage.__name__}: {failed.value}"
            check_reason(failed.value.text, whole, what)
    assert run("-t", "-c", whole.path).returncode == 0


@pytest.mark.parametrize("what", TEXTS + PEMS)
def test_refused_at_a_reload(whole, what):
    """One daemon, one reload after the other."""
    whole.start()
    bystander = whole.connect("bystander", **OURS)
    bystander.subscribe(("t", 1))
    whole.reload()
    whole.wait_log(ENDS)
    before = whole.resident()
    descriptors = whole.descriptors()
    for count, damage in enumerate(sorted((damage for name, damage in KINDS if name == what), key=ids), 2):
        mend = apply(whole, what, damage)
        at = len(whole.log)
        whole.reload()
        whole.wait_log(ENDS, count)
        mend()
        said = whole.log[at:]
        assert "verything stays as it was" in said, f"{damage.__name__}: {said}"
        check_reason(said, whole, what)
        bystander.publish("t", damage.__name__, 1)
        bystander.expect_message("t", damage.__name__)
    whole.client().connect("c", expect=NOT_AUTHORISED)
    whole.client().connect("c", user="one", password="wrong", expect=NOT_AUTHORISED)
    whole.connect("c", **OURS)
    cert, key = whole.pki.client("one")
    whole.connect("d", "tls", options={"cert": cert, "key": key})
    whole.reload()
    whole.wait_log("Reloaded", 2)
    bystander.ping()
    assert whole.descriptors() <= descriptors + 2  # the two that have come meanwhile
    if not SANITIZED:
        assert whole.resident() - before < 8 * MB


@pytest.mark.parametrize("damage", [absent, pipe, loop, dangling, device], ids=ids)
@pytest.mark.parametrize("what", ["include_dir", "http_dir"])
def test_folders_that_are_none(whole, what, damage):
    whole.start()
    path = whole.dir / NAMES[what]
    aside = path.with_name("aside")
    path.rename(aside)
    path.touch()
    damage(path, b"")
    at = len(whole.log)
    whole.reload()
    whole.wait_log(ENDS)
    assert "verything stays as it was" in whole.log[at:]
    line = next(line for line in whole.log[at:].split("\n") if str(path) in line)
    assert f"{whole.path}:" in line and what in line
    done = run("-t", "-c", whole.path)
    assert done.returncode == 3 and f"{whole.path}:" in done.stderr and str(path) in done.stderr
    whole.connect("c", **OURS)
    if path.is_symlink() or path.exists():
        path.unlink()
    aside.rename(path)


def test_what_lies_in_folders(whole):
    """include_dir takes names that end in .conf, whatever they are; http_dir leaves out what is no plain file."""
    page = whole.dir / "page"
    os.mkfifo(page / "pipe")
    (page / "loop").symlink_to("loop")
    (page / "zero").symlink_to("/dev/zero")
    (page / "up").symlink_to("..")
    (page / "outside").symlink_to(whole.dir / "server.key")
    (whole.dir / "conf.d" / "README").symlink_to("/dev/zero")
    (whole.dir / "conf.d" / "old.conf.bak").mkdir()
    whole.start()
    whole.connect("c", **OURS)
    (whole.dir / "conf.d" / "x.conf").symlink_to("../bramble.conf")
    done = run("-t", "-c", whole.path)
    assert done.returncode == 3
    assert "conf.d/x.conf: Error: This is the main configuration file: it cannot lie in its own include_dir." in done.stderr
    (whole.dir / "conf.d" / "x.conf").unlink()
    for i in range(2000):
        (whole.dir / "conf.d" / f"{i:05}.conf").write_text(f"# {i}\n")
    whole.reload()
    whole.wait_log("Reloaded")
    (whole.dir / "conf.d" / "y.conf").write_text(f"include_dir {whole.dir}/conf.d\n")
    whole.reload()
    whole.wait_log("conf.d/y.conf:1: Error: The include_dir option is only valid in the main configuration file")


def test_includes_that_go_in_a_circle(tmp_path):
    """A configuration in its own include_dir, under its own name, by link and by hard link."""
    folder_of_all = tmp_path / "conf.d"
    folder_of_all.mkdir()
    main = folder_of_all / "main.conf"
    main.write_text(f"allow_anonymous true\ninclude_dir {folder_of_all}\n")
    (tmp_path / "link.conf").symlink_to("conf.d/main.conf")
    os.link(main, tmp_path / "hard.conf")
    for path in (main, tmp_path / "link.conf", tmp_path / "hard.conf"):
        done = run("-t", "-c", path)
        assert done.returncode == 3
        assert f"{main}: Error: This is the main configuration file" in done.stderr


def test_lines_of_a_megabyte(tmp_path):
    """In every file that has lines; and a million lines are no hindrance."""
    broker = Broker(tmp_path / "b", CONFIG.split("include_dir")[0] + "listener {tcp} 127.0.0.1\n", files=FILES)
    text = broker.path.read_text()
    broker.path.write_text("#" + "x" * MB + "\n" + text)
    done = run("-t", "-c", broker.path)
    assert done.returncode == 3 and f"{broker.path}:1: Error: The line is longer than 65536 bytes" in done.stderr
    broker.path.write_text(text)
    for name in ("passwd", "acl"):
        path = broker.dir / name
        good = path.read_text()
        path.write_text(good + "#" * MB)
        done = run("-t", "-c", broker.path)
        assert done.returncode == 3 and re.search(rf"{path}:\d: the line is too long", done.stderr), done.stderr
        path.write_text("# filler\n" * 200_000 + good)
        done = run("-t", "-c", broker.path)
        assert done.returncode == 0, done.stderr


# ---- rights and devices

@pytest.fixture
def nobody():
    """As root: the name of a user with few rights. Otherwise None, and files are taken away by their mode."""
    return "nobody" if os.geteuid() == 0 else None


@pytest.mark.parametrize("what", ["password_file", "acl_file", "keyfile", "certfile"])
def test_rights_that_go_while_it_runs(tmp_path, pki, crl, nobody, what):
    """Read at start (as root), not readable at a reload: everything stays as it was; and when they come back it goes on."""
    user = f"user {nobody}\n" if nobody else ""
    broker = Broker(tmp_path / "broker", user + CONFIG, pki, files=FILES)
    for name in ("ca.crt", "server.crt", "server.key"):
        (broker.dir / name).write_bytes((pki.dir / name).read_bytes())
    (broker.dir / "own.crl").write_bytes(crl)
    for parent in [broker.dir, *broker.dir.parents][:4]:
        if parent.stat().st_uid == os.geteuid():
            parent.chmod(parent.stat().st_mode | 0o055)
    for path in broker.dir.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    path = broker.dir / NAMES[what]
    try:
        broker.start()
        bystander = broker.connect("bystander", **OURS)
        broker.reload()
        broker.wait_log("Reloaded")
        path.chmod(0o600 if nobody else 0)
        broker.reload()
        broker.wait_log("Reload failed: everything stays as it was")
        assert re.search(rf"{broker.path}:\d+: Error: {what}:? {path}: Permission denied", broker.log), broker.log
        bystander.ping()
        broker.client().connect("c", expect=NOT_AUTHORISED)
        broker.client().connect("c", user="one", password="wrong", expect=NOT_AUTHORISED)
        broker.connect("c", **OURS).ping()
        path.chmod(0o644)
        broker.reload()
        broker.wait_log("Reloaded", 2)
        broker.stop()
    finally:
        broker.kill()


def bad_target(kind, folder_of_all):
    path = folder_of_all / "target"
    if kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to("target")
    elif kind == "no folder":
        path = folder_of_all / "no" / "target"
    return path


@pytest.mark.parametrize("kind, line", [("folder", "pid_file {}"), ("no folder", "pid_file {}"), ("folder", "log_dest file {}"),
                                        ("no folder", "log_dest file {}"), ("loop", "log_dest file {}")])
def test_what_cannot_be_written(tmp_path, kind, line):
    """The place in the configuration is named, also when log_dest was said again below."""
    target = bad_target(kind, tmp_path)
    text = "listener {tcp} 127.0.0.1\n\n" + line.format(target) + "\nlog_dest stderr\n"
    broker = Broker(tmp_path / "broker", text)
    with pytest.raises(Failed) as failed:
        broker.start()
    broker._notify.close()
    assert f"{broker.path}:3: Error: {line.split()[0]}: " in failed.value.text
    assert str(target) in failed.value.text
    assert failed.value.status == (3 if line.startswith("log") else 1)


def test_log_file_that_goes_while_it_runs(start, tmp_path):
    """SIGHUP opens it again: where that fails, the log goes on as before."""
    target = tmp_path / "log"
    broker = start(f"log_dest stderr\nlog_dest file {target}\n")
    target.unlink()
    target.mkdir()
    broker.reload()
    broker.wait_log(rf"Reload: {broker.path}:2: Error: log_dest: log file {target}: Is a directory; the log goes on as before")
    broker.connect("still logged")
    broker.wait_log("as still logged")


@pytest.mark.parametrize("line", ["log_dest file /dev/full", "log_dest file /dev/null", "log_dest file {dir}/pipe"])
def test_log_to_a_device(start, tmp_path, line):
    """A disk that is full, a pipe that nobody reads: clients do not notice."""
    (tmp_path / "broker0").mkdir()
    os.mkfifo(tmp_path / "broker0" / "pipe")
    broker = start(line + "\nlog_dest stderr\nlog_type all\n")
    for i in range(200):
        client = broker.connect(f"c{i}")
        client.subscribe("x" * 1000)
        client.disconnect()
    if "full" in line:
        broker.wait_log("Cannot write the log to /dev/full: No space left on device")


def test_devices_stay_what_they_are(start, tmp_path):
    """pid_file /dev/null is refused: as root it would be replaced by a file."""
    fake = tmp_path / "null"
    fake.symlink_to("/dev/null")
    for name in ("/dev/null", fake):
        broker = Broker(tmp_path / "broker", f"pid_file {name}\n")
        with pytest.raises(Failed) as failed:
            broker.start()
        broker._notify.close()
        assert "bramble.conf:1: Error: pid_file: " in failed.value.text
    done = run("passwd", "-c", "-b", "/dev/null", "one", "secret")
    assert done.returncode == 1 and "/dev/null: not a file" in done.stderr
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_config_check_changes_nothing(start):
    """-t beside the running daemon: no socket, no pid file, no log file, and the daemon does not notice."""
    broker = start("pid_file {dir}/pid\nlog_dest file {dir}/log\nlog_dest stderr\nlistener {tcp} 127.0.0.1\nlistener 0 {dir}/socket\n"
                   "allow_anonymous true\n")
    while "running." not in (broker.dir / "log").read_text():  # a thread writes it, some time after the readiness
        time.sleep(0.01)
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns, path.stat().st_size) for path in broker.dir.iterdir()}
    done = run("-t", "-c", broker.path)
    assert done.returncode == 0 and done.stderr.endswith("Configuration file is OK.\n")
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns, path.stat().st_size) for path in broker.dir.iterdir()} == before
    broker.connect("c").ping()


# ---- the tools

@pytest.mark.parametrize("damage", sorted({d for what, d in KINDS if what == "password_file"}, key=ids), ids=ids)
def test_passwd_on_a_file_that_is_none(tmp_path, damage):
    """Nothing is made of it, and nothing beside it is left behind."""
    path = tmp_path / "passwd"
    passwd(path, "one", "secret")
    passwd(path, "two", "secret")
    damage(path, path.read_bytes())
    before = {p.name for p in tmp_path.iterdir()}
    made = ("-H", "sha512-pbkdf2", "-I", "100")
    for args in ((*made, "-b", path, "three", "secret"), ("-D", path, "one"), (*made, "-U", path)):
        was = content(path)
        done = run("passwd", *args)
        assert done.returncode == 1, f"{args[0]}: {done.stdout}{done.stderr}"
        assert re.match(r"Error: /.*: .", done.stderr), done.stderr
        assert content(path) == was
    assert {p.name for p in tmp_path.iterdir()} == before


def content(path):
    """What is there: its kind, and of a plain file the beginning."""
    mode = os.lstat(path).st_mode if os.path.lexists(path) else None
    if mode is None or not stat.S_ISREG(mode):
        return mode
    with open(path, "rb") as file:
        return mode, os.path.getsize(path), file.read(MB)


@pytest.mark.parametrize("damage", sorted({d for what, d in KINDS if what == "keyfile"}, key=ids), ids=ids)
@pytest.mark.parametrize("name", ["ca.crt", "ca.key"])
def test_cert_with_a_ca_that_is_none(tmp_path, pki, name, damage):
    """No certificate is made from it, and what was there stays."""
    for part in ("ca.crt", "ca.key", "server.crt", "server.key"):
        (tmp_path / part).write_bytes((pki.dir / part).read_bytes())
    server = (tmp_path / "server.crt").read_bytes()
    damage(tmp_path / name, (tmp_path / name).read_bytes())
    before = {p.name for p in tmp_path.iterdir()}
    for args in (("server", tmp_path), ("client", tmp_path, "meter")):
        done = run("cert", *args)
        assert done.returncode == 1, done.stdout + done.stderr
        assert done.stderr.startswith("bramble cert: ") and name in done.stderr, done.stderr
    assert (tmp_path / "server.crt").read_bytes() == server
    assert {p.name for p in tmp_path.iterdir()} == before
    if name == "ca.crt":
        done = run("cert", "show", tmp_path / name)
        assert done.returncode == 1 and name in done.stderr


@pytest.mark.parametrize("kind", ["file", "loop", "pipe"])
@pytest.mark.parametrize("tool", [("cert", "init"), ("cert", "server"), ("setup",)])
def test_tools_with_a_folder_that_is_none(tmp_path, kind, tool):
    path = tmp_path / "target"
    {"file": path.touch, "loop": lambda: path.symlink_to("target"), "pipe": lambda: os.mkfifo(path)}[kind]()
    ports = ["--plain-port", "11883", "--tls-port", "18883", "--web-port", "18884"] if tool == ("setup",) else []
    done = run(*tool, *ports, path)
    assert done.returncode == 1 and str(path) in done.stderr, done.stdout + done.stderr
