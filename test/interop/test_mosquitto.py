"""mosquitto_pub and mosquitto_sub, and mosquitto itself as a bridge."""

import shutil
import signal
import subprocess

import pytest

from bramble import LISTENER, Client, Pki, free_port
from streams import tcp

KINDS = ("tcp", "tls", "mutual", "unix")


class Tools:
    """A daemon with a listener of each kind, and the two programs with the right options for one of them."""

    def __init__(self, broker, kind, sock):
        self.broker = broker
        self.sock = sock
        self.kind = kind
        self.processes = []

    def where(self):
        if self.kind == "unix":
            return ["--unix", str(self.sock)]
        args = ["-h", "localhost", "-p", str(self.broker.ports[{"mutual": "tls2"}.get(self.kind, self.kind)])]
        if self.kind != "tcp":
            args += ["--cafile", str(self.broker.pki.ca)]
        if self.kind == "mutual":
            cert, key = self.broker.pki.client("alice")
            args += ["--cert", str(cert), "--key", str(key)]
        return args

    def sub(self, client_id, topic, *args, count=1, qos=0):
        """Starts mosquitto_sub, which ends after count messages; returns when it has subscribed."""
        seen = self.broker.log.count(f" {client_id} {qos} {topic}\n")
        process = subprocess.Popen(["mosquitto_sub", *self.where(), "-i", client_id, "-t", topic, "-q", str(qos),
                                    *(["-C", str(count)] if count else []), "-W", "60", *args],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.processes.append(process)
        self.broker.wait_log(rf"(?m) {client_id} {qos} {topic.replace('+', '.').replace('$', '.')}$", seen + 1)
        return process

    def pub(self, topic, *args, status=0, stdin=None):
        done = subprocess.run(["mosquitto_pub", *self.where(), "-t", topic, *args], input=stdin, capture_output=True,
                              timeout=60, check=False)
        assert done.returncode == status, done.stderr.decode()
        return done


def output(process):
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err.decode()
    return out.decode()


CONFIG = "log_type all\nallow_anonymous true\nlistener 0 {sock}\n" + LISTENER["tcp"] + LISTENER["tls"] + \
    LISTENER["tls"].replace("{tls}", "{tls2}") + "cafile {pki}/ca.crt\nrequire_certificate true\n"


@pytest.fixture
def make(start, tmp_path):
    made = []

    def factory(kind, config=""):
        sock = tmp_path / "sock"
        made.append(Tools(start(config + CONFIG.replace("{sock}", str(sock))), kind, sock))
        return made[-1]

    yield factory
    for tools in made:
        for process in tools.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()


@pytest.fixture(params=KINDS)
def tools(make, request):
    return make(request.param)


@pytest.mark.parametrize("version", ["mqttv31", "mqttv311"])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_publish_and_subscribe(tools, version, qos):
    sub = tools.sub("sub", "a/+", "-v", "-V", version, qos=qos)
    tools.pub("a/b", "-m", "hello ä", "-q", str(qos), "-V", version)
    assert output(sub) == "a/b hello ä\n"


def test_mqtt5_is_refused(make):
    tools = make("tcp")
    assert subprocess.run(["mosquitto_pub", *tools.where(), "-V", "mqttv5", "-t", "t", "-m", "x"], capture_output=True,
                          timeout=60, check=False).returncode != 0
    tools.broker.wait_log("protocol level")


def test_wrong_ca_is_noticed_by_the_client(make, tmp_path):
    """Its exit status depends on whether it meets the error while it connects or in its loop."""
    tools = make("tls")
    tools.broker.pki = Pki(tmp_path / "other")
    done = subprocess.run(["mosquitto_pub", *tools.where(), "-t", "t", "-m", "x"], capture_output=True, timeout=60, check=False)
    assert done.returncode in (1, 8), (done.returncode, done.stderr.decode())
    tools.broker.wait_log("during the TLS handshake|alert")
    assert "New client connected" not in tools.broker.log


def test_no_certificate(make):
    tools = make("mutual")
    broker = tools.broker
    done = subprocess.run(["mosquitto_pub", "-h", "localhost", "-p", str(broker.ports["tls2"]), "--cafile", str(broker.pki.ca),
                           "-t", "t", "-m", "x"], capture_output=True, timeout=60, check=False)
    assert done.returncode != 0
    broker.wait_log("certificate")


def test_lines_in_order(tools):
    """-l: a line a message, as fast as it can."""
    lines = "".join(f"line {i}\n" for i in range(2000))
    sub = tools.sub("sub", "t", qos=2, count=2000)
    tools.pub("t", "-l", "-q", "2", stdin=lines.encode())
    assert output(sub) == lines


@pytest.mark.parametrize("qos", [1, 2])
def test_a_subscriber_that_did_not_run_for_a_moment(make, qos):
    """A busy machine does that to any process: it is no slow reader."""
    tools = make("tcp")
    lines = "".join(f"line {i}\n" for i in range(1200))
    sub = tools.sub("sub", "t", qos=qos, count=1200)
    sub.send_signal(signal.SIGSTOP)
    tools.pub("t", "-l", "-q", str(qos), stdin=lines.encode())
    sub.send_signal(signal.SIGCONT)
    assert output(sub) == lines


def test_a_large_file(tools, tmp_path):
    data = bytes(i * i & 255 for i in range(256)) * 4096
    (tmp_path / "data").write_bytes(data)
    sub = tools.sub("sub", "t", "-N", qos=1)
    tools.pub("t", "-f", str(tmp_path / "data"), "-q", "1")
    assert sub.communicate(timeout=60)[0] == data


def test_retained(make):
    tools = make("tcp")
    tools.pub("r/1", "-m", "one", "-r", "-q", "1")
    tools.pub("r/2", "-m", "two", "-r", "-q", "1")
    assert sorted(output(tools.sub("s", "r/+", "-F", "%t %r %p", count=2)).splitlines()) == ["r/1 1 one", "r/2 1 two"]
    tools.pub("r/1", "-n", "-r")
    assert output(tools.sub("s2", "r/+", "-F", "%t %r %p", count=1)) == "r/2 1 two\n"


def test_will(tools):
    watcher = tools.sub("watcher", "will", qos=1)
    dying = tools.sub("dying", "t", "--will-topic", "will", "--will-payload", "died", "--will-qos", "1", count=0)
    dying.send_signal(signal.SIGKILL)
    assert output(watcher) == "died\n"


def test_kept_session(tools):
    """-c: what came meanwhile is there."""
    first = tools.sub("kept", "t", "-c", qos=1, count=0)
    first.send_signal(signal.SIGKILL)  # mosquitto_sub sometimes does not hear SIGTERM
    first.wait(60)
    tools.broker.wait_log("Client kept .*disconnected")
    for i in range(20):
        tools.pub("t", "-m", str(i), "-q", "1")
    assert output(tools.sub("kept", "t", "-c", qos=1, count=20)) == "".join(f"{i}\n" for i in range(20))


def test_passwords(start, make):
    broker = start("password_file {dir}/passwd\nlog_type all\n", files={"passwd": "one:secret"})
    tools = Tools(broker, "tcp", None)
    tools.pub("t", "-m", "x", "-u", "one", "-P", "secret", "-q", "1")
    for args in (["-u", "one", "-P", "wrong"], ["-u", "two", "-P", "secret"], []):
        done = tools.pub("t", "-m", "x", *args, status=5)
        assert b"not authorised" in done.stderr


def test_mosquitto_as_a_bridge(make, tmp_path):
    """mosquitto connects to us and passes messages on, both ways. It first tries a protocol version of its own
    (try_private), which we refuse as the standard wants it."""
    tools = make("tcp")
    port = free_port()
    (tmp_path / "bridge.conf").write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\nconnection up\n"
        f"address 127.0.0.1:{tools.broker.ports['tcp']}\ntopic # out 2 from/ bridged/\ntopic # in 2 to/ down/\n"
        "bridge_protocol_version mqttv311\nrestart_timeout 1 2\nremote_clientid bridge\nnotifications false\n")
    program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    with subprocess.Popen([program, "-c", str(tmp_path / "bridge.conf")], stderr=subprocess.DEVNULL) as mosquitto:
        try:
            tools.broker.wait_log("bridge 2 down/#")
            sub = tools.sub("sub", "bridged/#", "-v", qos=2)
            subprocess.run(["mosquitto_pub", "-h", "127.0.0.1", "-p", str(port), "-t", "from/x", "-m", "up", "-q", "2"], check=True,
                           timeout=60)
            assert output(sub) == "bridged/x up\n"
            local = Client(tcp(port))
            local.connect("local")
            local.subscribe(("to/#", 1))
            tools.pub("down/y", "-m", "down", "-q", "1")
            local.expect_message("to/y", "down", 1)
        finally:
            mosquitto.terminate()
