"""bramble: the daemon under test, started in a folder of its own on free loopback ports.

    broker = Broker(folder, "max_inflight_messages 1")     # start() adds a listener and allow_anonymous if need be
    broker.start()                                         # returns when the daemon says READY=1
    client = broker.client("tls")                          # a raw client (rawmqtt) that has sent nothing yet
    broker.stop()                                          # SIGTERM; exit status and sanitizers are looked at

In a configuration {tcp}, {tls}, {ws}, {wss} (also {tcp2}...) are free ports; {dir} is the folder of the daemon, {pki}
that of the certificates (Pki). LISTENER has the lines for a listener of each kind.

The program is that of BRAMBLE in the environment. Sanitizers are noticed by themselves.
"""

import itertools
import os
import random
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import streams
from rawmqtt import Client
from streams import TIMEOUT

TOP = Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("BRAMBLE") or str(TOP / "build" / "bramble")
SANITIZED = b"__asan_init" in Path(PROGRAM).read_bytes() if os.path.exists(PROGRAM) else False

TRANSPORTS = ("tcp", "tls", "ws", "wss")
CERTIFICATE = "certfile {pki}/server.crt\nkeyfile {pki}/server.key\n"
LISTENER = {
    "tcp": "listener {tcp} 127.0.0.1\n",
    "tls": "listener {tls} 127.0.0.1\n" + CERTIFICATE,
    "ws": "listener {ws} 127.0.0.1\nprotocol websockets\n",
    "wss": "listener {wss} 127.0.0.1\nprotocol websockets\n" + CERTIFICATE,
}

# Failed logins are answered soon, and as often as a test likes, unless its configuration says otherwise.
QUICK = ("auth_fail_delay 20\n", "auth_ban_failures 0\n", "log_strangers_rate 0\n")

# What a sanitizer (or the C library) writes before it ends a program.
COMPLAINT = re.compile(r"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:|\*\*\* .* \*\*\*:|Assertion .* failed")


def run(*args, stdin=None, env=None):
    """Runs `bramble ARGS`, to its end; everything that is text."""
    done = subprocess.run([PROGRAM, *map(str, args)], input=stdin, capture_output=True, text=True, timeout=3 * TIMEOUT,
                          env={**os.environ, **(env or {})}, check=False)
    assert not COMPLAINT.search(done.stderr), done.stderr
    return done


def passwd(path, user, password, *options):
    """Adds a user to a password file, or changes its password. Without options with a hash that costs little."""
    options = options or ("-H", "sha512-pbkdf2", "-I", "100")
    create = [] if Path(path).exists() else ["-c"]
    done = run("passwd", *options, *create, "-b", path, user, password)
    assert done.returncode == 0, done.stderr


class Pki:
    """A CA, a server certificate for localhost and clients' certificates, made by `bramble cert`."""

    def __init__(self, folder):
        self.dir = Path(folder)
        self.ca = self.dir / "ca.crt"
        self.make("init", "--name", "localhost", "--name", "127.0.0.1", "--name", "::1")

    def make(self, command, *args):
        done = run("cert", command, self.dir, *args)
        assert done.returncode == 0, done.stderr

    def client(self, name):
        """(certificate, key) of a client."""
        cert, key = self.dir / f"{name}.crt", self.dir / f"{name}.key"
        if not cert.exists():
            self.make("client", name)
        return cert, key

    def __str__(self):
        return str(self.dir)


def free_port():
    """Below the range from which the system takes ports for clients, so none of those gets in the way."""
    while True:
        port = random.randrange(10000, 32000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Failed(Exception):
    """The daemon did not become ready: status and stderr."""

    def __init__(self, status, text):
        super().__init__(f"exit status {status}:\n{text}")
        self.status = status
        self.text = text


class Broker:
    _numbers = itertools.count()

    def __init__(self, folder, config="", pki=None, args=(), env=None, files=None, verbatim=False, stderr=None):
        """files: name and text of more files in the folder; of one called passwd the text has lines "user:password".
        verbatim: nothing is added to the configuration (but the ports and folders). None as configuration: the daemon
        gets no -c. stderr: a descriptor instead of the pipe that is read into self.log."""
        self.dir = Path(folder)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.pki = pki
        self.args = [str(a) for a in args]
        self.env = env or {}
        self.ports = {}
        self.path = self.dir / "bramble.conf"
        self.verbatim = verbatim
        if config is None:
            self.path = None
        else:
            self.configure(config)
        for name, text in (files or {}).items():
            self.write(name, text)
        self.process = None
        self.stderr = stderr
        self.log = ""
        self._changed = threading.Condition()
        self._reader = None
        self._notify = None

    # ---- configuration

    def fill(self, text):
        """Replaces {tcp}, {dir}...; each port is chosen once and kept."""
        def value(match):
            name = match[1]
            if name == "dir":
                return str(self.dir)
            if name == "pki":
                return str(self.pki)
            if name not in self.ports:
                self.ports[name] = free_port()
            return str(self.ports[name])
        return re.sub(r"\{([a-z]+\d*)\}", value, text)

    def configure(self, config):
        """Writes the configuration file; for a daemon that runs it counts after reload()."""
        lines = config
        if not self.verbatim:
            if not re.search(r"^\s*(listener|port)\b", config, re.M):
                lines = lines.rstrip("\n") + "\n" + LISTENER["tcp"]
            if not re.search(r"^\s*(allow_anonymous|password_file|per_listener_settings)\b", config, re.M):
                lines = lines.rstrip("\n") + "\nallow_anonymous true\n"
            for line in QUICK:  # tests of logins and of the log say what they want
                if not re.search(rf"^\s*{line.split()[0]}\b", config, re.M):
                    lines = lines.rstrip("\n") + "\n" + line
            if os.geteuid() == 0 and not re.search(r"^\s*user\b", config, re.M):
                lines = lines.rstrip("\n") + "\nuser root\n"  # so that it may read the test's folder at a reload
        self.path.write_text(self.fill(lines))

    def write(self, name, text):
        """A file in the daemon's folder."""
        path = self.dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name == "passwd":
            for line in text.split():
                passwd(path, *line.split(":"))
        else:
            path.write_text(self.fill(text))
        return path

    # ---- life

    def start(self, wait=True):
        number = next(Broker._numbers)
        name = f"bramble-test-{os.getpid()}-{number}"
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind("\0" + name)
        command = [PROGRAM, *(["-c", str(self.path)] if self.path else []), *self.args]
        self.log = ""
        self.process = self.popen(command, cwd=self.dir, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=self.stderr if self.stderr is not None else subprocess.PIPE,
                                  env={**os.environ, "NOTIFY_SOCKET": "@" + name, **self.env})
        if self.process.stderr:
            self._reader = threading.Thread(target=self._read, args=(self.process.stderr,), daemon=True)
            self._reader.start()
        if wait:
            self.wait_notify("READY=1")
        return self

    def popen(self, command, **options):
        """For a daemon that is to be started in another way."""
        return subprocess.Popen(command, **options)

    def _read(self, pipe):
        while True:
            data = os.read(pipe.fileno(), 65536)
            with self._changed:
                self.log += data.decode(errors="replace")
                self._changed.notify_all()
            if not data:
                pipe.close()
                return

    @property
    def pid(self):
        return self.process.pid

    def wait_notify(self, line):
        """Waits for a datagram with this line, as systemd would get it. Failed if the daemon ends before."""
        handle = os.pidfd_open(self.pid)
        try:
            end = time.monotonic() + TIMEOUT
            while True:
                ready = select.select([self._notify, handle], [], [], max(0, end - time.monotonic()))[0]
                if self._notify in ready:
                    if line in self._notify.recv(4096).decode().split("\n"):
                        return
                elif handle in ready:
                    status = self.process.wait()
                    self._join()
                    raise Failed(status, self.log)
                elif not ready:
                    raise AssertionError(f"the daemon did not say {line} in time:\n{self.log}")
        finally:
            os.close(handle)

    def _forget_notify(self):
        while select.select([self._notify], [], [], 0)[0]:
            self._notify.recv(4096)

    def _join(self):
        if self._reader:
            self._reader.join(TIMEOUT)
            self._reader = None

    def signal(self, number):
        self.process.send_signal(number)

    def reload(self):
        """SIGHUP, and the end of the reload, be it good or bad."""
        self._forget_notify()
        self.signal(signal.SIGHUP)
        self.wait_notify("READY=1")

    def wait(self, status=0):
        """Waits for the daemon's end."""
        try:
            got = self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the daemon did not end:\n{self.log}") from None
        self._join()
        self._notify.close()
        assert not COMPLAINT.search(self.log), self.log
        assert got == status, f"exit status {got}, expected {status}:\n{self.log}"

    def stop(self):
        if self.process and self.process.returncode is None:
            self.signal(signal.SIGTERM)
            self.wait()

    def kill(self):
        """The hard way, for a daemon that hangs."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
            self._join()

    # ---- what it says and uses

    def wait_log(self, pattern, count=1, since=0):
        """Waits until the log has the regular expression (count times), behind its first `since` characters."""
        with self._changed:
            found = self._changed.wait_for(lambda: len(re.findall(pattern, self.log[since:])) >= count, TIMEOUT)
        assert found, f"the log does not say {pattern!r}{f' {count} times' if count > 1 else ''}:\n{self.log}"

    def resident(self):
        """Bytes of memory in use."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", text)[1]) * 1024

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    # ---- clients

    def stream(self, port="tcp", receive_buffer=None, ca=True, cert=None, key=None, host="127.0.0.1", **websocket):
        """Connects to the port of this name, with all that belongs to its kind (the name without digits)."""
        kind = port.rstrip("0123456789")
        below = streams.tcp(self.ports[port], host, receive_buffer)
        try:
            if kind in ("tls", "wss"):
                context = ca if not isinstance(ca, bool) else streams.tls_context(self.pki.ca if ca else None, cert, key)
                below = streams.tls(below, context)
            if kind in ("ws", "wss"):
                below = streams.WebSocket(below, **websocket)
        except BaseException:
            below.close()
            raise
        return below

    def client(self, port="tcp", **options):
        """A raw client that has not sent anything yet."""
        return Client(self.stream(port, **options))

    def connect(self, client_id="", port="tcp", options=None, **fields):
        """A raw client that is connected."""
        client = self.client(port, **(options or {}))
        client.connect(client_id, **fields)
        return client


if __name__ == "__main__":  # python3 test/lib/bramble.py FILE: fills in a configuration and runs the daemon with it
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        example = Broker(place, Path(sys.argv[1]).read_text() if len(sys.argv) > 1 else "", Pki(place + "/pki"))
        print(example.start().ports)
        example.process.wait()
