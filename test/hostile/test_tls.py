"""TLS from a client that keeps to no rule: something else than TLS, records and messages that are wrong, slow or cut
anywhere, certificates that nobody should accept or that cost much to look at, tickets that were tampered with. The daemon
refuses, says why, and everybody else goes on, also those who are just shaking hands."""

import contextlib
import itertools
import os
import re
import socket
import ssl
import struct
import subprocess
from pathlib import Path

import pytest

import der
import streams
from attack import MB, fewer, many_descriptors
from bramble import LISTENER, PROGRAM, SANITIZED, Client, Pki
from rawmqtt import *
from web import BOTH, watched

TLS = BOTH + LISTENER["tls"]
MUTUAL = "listener {tls2} 127.0.0.1\ncertfile {pki}/server.crt\nkeyfile {pki}/server.key\ncafile {pki}/ca.crt\n" \
         "require_certificate true\nuse_identity_as_username true\n"
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

DAMAGED = "the client sent a damaged TLS record"
NOT_TLS = "the client does not speak TLS"
LEFT = "the client closed the connection during the TLS handshake"
HTTP = "the client speaks plain HTTP, but this listener speaks TLS"
PROXY = "the client sends a PROXY protocol header, which bramble does not understand"
NO_VERSION = "the client and this listener have no version of TLS in common"


@pytest.fixture
def broker(attacked):
    return attacked(TLS + "log_type all\n")


@pytest.fixture(params=["tls", "wss"])
def port(request):
    return request.param


# ---- a client whose bytes are in the test's hand

def context(broker, version=None, cert=None, key=None):
    made = streams.tls_context(broker.pki.ca, cert, key)
    made.set_ciphers("DEFAULT:@SECLEVEL=0")  # what a client of bad will would send
    if version:
        made.minimum_version = made.maximum_version = VERSIONS[version]
    return made


class Half:
    """The client's side of a handshake; send what step() gives, and give it what comes."""

    def __init__(self, made, session=None):
        self.into, self.out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = made.wrap_bio(self.into, self.out, server_hostname="localhost", session=session)
        self.done = False

    def step(self, data=b""):
        self.into.write(data)
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
            self.done = True
        return self.out.read()


def hello(made, session=None):
    return Half(made, session).step()


class Wire:
    """A TCP connection to a TLS port, and what the log calls it."""

    def __init__(self, broker, port):
        self.broker = broker
        self.sock = streams.tcp(broker.ports[port]).sock
        self.address = r"\[127\.0\.0\.1:%d\]" % self.sock.getsockname()[1]

    def send(self, *data):
        with contextlib.suppress(ConnectionError):
            self.sock.sendall(b"".join(data))
        return self

    def all(self):
        """Everything up to the end."""
        out = b""
        with contextlib.suppress(ConnectionError):
            while data := self.sock.recv(65536):
                out += data
        return out

    def half_close(self):
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)
        return self

    def close(self):
        self.sock.close()

    def reset(self):
        streams.Plain(self.sock).reset()

    def is_told(self, reason):
        self.broker.wait_log(f"{self.address} disconnected: {reason}")


def record(kind, body, version=b"\3\3", size=None):
    return bytes([kind]) + version + struct.pack(">H", len(body) if size is None else size) + body


def records(message, n):
    """A handshake message in records of n bytes."""
    return b"".join(record(22, message[i:i + n]) for i in range(0, len(message), n))


# ---- no TLS, or none of today

FIRST = [
    (b"\0", NOT_TLS), (b"\0" * 5000, NOT_TLS), (b"\xff" * 100, NOT_TLS), (b"\x80\x2e\1\0\2" + b"\0" * 45, NOT_TLS),  # SSL 2
    (b"\x16\2\0\0\1\0", NOT_TLS), (b"SSH-2.0-x\r\n", NOT_TLS), (b"EHLO x\r\n", NOT_TLS), (b"\x82\x80\0\0\0\0", NOT_TLS),
    (record(21, b"\2\x28"), NOT_TLS), (record(20, b"\1"), NOT_TLS), (record(23, b"x" * 100), NOT_TLS), (record(24, b"\1\x40\0"), NOT_TLS),
    (connect("c"), "the client speaks plain MQTT, but this listener speaks TLS"),
    *((word + b" / HTTP/1.1\r\nHost: h\r\n\r\n", HTTP) for word in (b"GET", b"POST", b"OPTIONS", b"CONNECT", b"PRI")),
    (b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n", PROXY), (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + b"\0" * 12, PROXY),
    (record(22, b""), DAMAGED), (record(22, b"") * 1000, DAMAGED), (record(22, b"\2\0\0\4abcd"), "the client sent a TLS message that does not"),
    (record(22, b"\1\0\0\0"), "the TLS handshake failed: "), (record(22, b"\1\0\0\1\0"), "the TLS handshake failed: "),
    (record(22, b"x" * 16385), DAMAGED), (record(22, b"x" * 20_000), "the client sent a TLS record that is too large"),
    (record(22, b"", size=65_535) + b"x" * 70_000, "the client sent a TLS record that is too large"),
    (records(b"\1\xff\xff\xff" + b"x" * 60_000, 16_384), "."),  # a ClientHello of 16 MB
]


def test_no_tls(broker, port):
    with watched(broker, peak=4 * MB):
        for data, reason in FIRST:
            wire = Wire(broker, port).send(data)
            answer = wire.all()
            assert answer.startswith(b"HTTP/1.1 400 " if reason == HTTP else b"\x15\3") or not answer, (data[:20], answer)
            wire.is_told(reason)
            wire.close()
        for data in (b"P", b"PRO", b"GE", b"\x16", b"\x16\3", b"\x16\3\1\0", b"\x16\3\1\0\5\1\0"):  # could still become something
            wire = Wire(broker, port).send(data).half_close()
            assert wire.all() == b""
            wire.is_told(LEFT)
            wire.close()
        wire = Wire(broker, port).half_close()
        assert wire.all() == b""
        wire.is_told("the client closed the connection without a word")
        wire.close()


def test_tls_on_other_ports(broker):
    """Told on the WebSocket port; on MQTT's it is a CONNECT with wrong flags."""
    with watched(broker, peak=4 * MB):
        data = hello(context(broker))
        for name, reason in (("tcp", "protocol error in CONNECT: "), ("ws", "the client speaks TLS, but this listener does not")):
            wire = Wire(broker, name).send(data)
            assert not wire.all().startswith(b"\x16")
            wire.is_told(reason)
            wire.close()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
def test_old_versions(broker, version):
    made = context(broker)
    made.minimum_version = made.maximum_version = getattr(ssl.TLSVersion, version)
    with watched(broker, peak=4 * MB):
        for data in (hello(made), hello(made).replace(b"\x16\3\1", b"\x16\3\0", 1)):
            wire = Wire(broker, "tls").send(data)
            assert wire.all()[-2:] == b"\2\x46"  # fatal, protocol_version
            wire.is_told(NO_VERSION)
            wire.close()


# ---- hellos

def test_every_byte_of_the_hello_bent(broker, port):
    """Each byte replaced by others: answered by a ServerHello or an alert, or not at all; never more."""
    data = hello(context(broker))
    step = 41 if SANITIZED else 7 if port == "wss" else 3
    with watched(broker, peak=4 * MB):
        for at, change in list(itertools.product(range(len(data)), (0, 1, 0x7f, 0x80, 0xff)))[::step]:
            wire = Wire(broker, port).send(data[:at], bytes([change if change != data[at] else data[at] ^ 1]), data[at + 1:])
            answer = wire.half_close().all()
            assert not answer or answer[0] in (0x15, 0x16), (at, change, answer[:20])
            wire.is_told(".")
            wire.close()


def test_every_cut_of_the_hello(broker, port):
    """The client stops at any byte and hangs up, or resets; also with the length of the record cut to what is there."""
    data = hello(context(broker))
    with watched(broker, peak=4 * MB):
        for n in range(1, len(data), 37 if SANITIZED else 5):
            wire = Wire(broker, port).send(data[:n])
            assert wire.half_close().all() == b""
            wire.is_told(LEFT)
            wire.close()
            Wire(broker, port).send(data[:n]).reset()
            if n > 10:
                wire = Wire(broker, port).send(record(22, data[5:n]))
                assert wire.half_close().all()[:1] in (b"", b"\x15")
                wire.close()


def test_fragmented_hello(broker, port):
    """In two records: allowed. In records of a few bytes each: allowed or refused."""
    data = hello(context(broker))[5:]
    with watched(broker, peak=4 * MB):
        for n in (1, 2, 3, 4, 5, 50, 100, 300):
            wire = Wire(broker, port).send(records(data, n)).half_close()
            answer = wire.all()
            assert answer[:1] in (b"", b"\x15", b"\x16")
            assert n < 100 or answer[:1] == b"\x16", n
            wire.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_after_the_hello(broker, version):
    """Where the client's answer to the ServerHello is due: alerts, noise, the hello again, far too much."""
    data = hello(context(broker, version))
    then = [data, record(21, b"\1\0"), record(21, b"\2\x28"), record(21, b"\2\x30"), record(21, b"\1\x5a") * 1000, record(21, b"\2"),
            record(21, b"\2\x28" * 1000), record(20, b"\1") * 1000, record(20, b""), record(22, b""), record(22, b"\x14\0\0\0"),
            record(23, b"x" * 100), record(23, b""), record(23, b"x" * 17_000), record(99, b"x"), os.urandom(1000), b"\0" * 100_000,
            record(22, b"\x10\0\xff\xff" + b"x" * 16_000) * 10, record(22, b"\x0b\xff\xff\xff" + b"x" * 16_000) * 10,
            record(22, b"\1\0\0\0") * 1000]
    with watched(broker, peak=4 * MB):
        for more in then:
            wire = Wire(broker, "tls").send(data, more).half_close()
            assert wire.all()[:1] == b"\x16"
            wire.is_told("the |no ")
            wire.close()


# ---- the whole handshake, cut anywhere

def shake(wire, half, budget):
    """Goes on until the handshake is done and a CONNECT sent, or budget bytes have left. Returns what is left of it."""
    out = half.step()
    while True:
        wire.send(out[:budget])
        budget -= len(out[:budget])
        if budget == 0 or half.done:
            return budget
        try:
            data = wire.sock.recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            return budget
        out = half.step(data)
        if half.done:
            half.tls.write(connect("cut", will=Will("will")))
            out += half.out.read()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["tls", "tls2"])
def test_end_at_every_byte(attacked, pki, name, version):
    """Of the client's handshake and the CONNECT behind it: it hangs up there, or resets."""
    broker = attacked(TLS + MUTUAL)
    made = context(broker, version, *(pki.client("alice") if name == "tls2" else ()))
    wire = Wire(broker, name)
    total = 1 << 20
    total -= shake(wire, Half(made), total)
    assert wire.sock.recv(1)
    wire.close()
    with watched(broker, peak=10 * MB):
        for n, end in itertools.product(range(0, total, 61 if SANITIZED else 11), (Wire.close, Wire.reset)):
            wire = Wire(broker, name)
            assert shake(wire, Half(made), n) == 0
            end(wire)


@pytest.mark.parametrize("version", VERSIONS)
def test_one_byte_at_a_time(broker, version):
    """Slow, but whole: accepted, and nobody waits for it."""
    made = context(broker, version)
    with watched(broker, peak=4 * MB) as others:
        wire, half = Wire(broker, "tls"), Half(made)
        out = half.step()
        while not half.done:
            for byte in out:
                wire.send(bytes([byte]))
            out = half.step(wire.sock.recv(65536))
        half.tls.write(connect("slow"))
        for byte in out + half.out.read():
            wire.send(bytes([byte]))
        broker.wait_log("as slow ")
        others[0].go_on()
        wire.close()


def test_stuck_handshakes(attacked):
    """Some at every stage, all at once: handshake_timeout ends each of them and says so."""
    broker = attacked(TLS + "handshake_timeout 2\n")
    made = context(broker)
    data = hello(made)
    with watched(broker, peak=4 * MB, ports=("tcp",)):
        stuck = [Wire(broker, name).send(data[:n]) for name in ("tls", "wss") for n in (0, 1, 5, 100, len(data) - 1, len(data))
                 for _ in range(4)]
        for wire in stuck:
            wire.all()
        # below a WebSocket its own deadline is the same one, and may be first
        broker.wait_log("(the TLS handshake was not done|no WebSocket request) within 2000 ms", len(stuck))
        broker.wait_log(r"the TLS handshake was not done within 2000 ms \(the client sent nothing\)", 4)
        for wire in stuck:
            wire.close()


HALF_OPEN = {"nothing": (0, 2000, 6), "half a hello": (-100, 2000, 8), "a hello": (None, 500, 24)}


@pytest.mark.parametrize("what", HALF_OPEN)
def test_half_open_by_the_thousand(attacked, what):
    """Clients that stop there and stay. What each may cost is bounded, and others get in beside them."""
    cut, many, peak = HALF_OPEN[what]
    broker = attacked(TLS + "handshake_timeout 300\n")
    data = hello(context(broker))[:cut] if cut != 0 else b""
    many = min(fewer(many), many_descriptors(2 * many + 500))
    with watched(broker, peak=peak * MB, after=(peak * 3 // 4 + 2) * MB):
        stuck = [Wire(broker, "tls").send(data) for _ in range(many)]
        if what == "a hello":
            for wire in stuck:
                assert wire.sock.recv(1)
        broker.connect("c", "tls").ping()
        for wire in stuck:
            wire.close()


def test_handshakes_all_at_once(broker):
    """Hundreds of hellos in one moment, each one's sums to be done, most of them for nobody."""
    data = hello(context(broker))
    with watched(broker, peak=24 * MB) as others:
        for _ in range(5):
            wires = [Wire(broker, "tls").send(data) for _ in range(fewer(100))]
            broker.connect("c", "tls").ping()
            others[1].go_on()
            for wire in wires:
                wire.reset()


# ---- open streams

@pytest.mark.parametrize("version", VERSIONS)
def test_end_without_goodbye(broker, version):
    """FIN without close_notify, in the middle of a record or between two; a record with a flipped bit. The will is
    published, and what came before is served."""
    watcher = broker.connect("watcher")
    watcher.subscribe("will", "t")
    with watched(broker, peak=4 * MB):
        for what in ("between", "cut", "flipped", "plain", "huge", "reset"):
            wire, half = Wire(broker, "tls"), Half(context(broker, version))
            shake(wire, half, 1 << 20)
            half.tls.write(publish("t", what))
            wire.send(half.out.read())
            half.tls.write(publish("t", "not whole"))
            last = half.out.read()
            watcher.expect_message("t", what)
            if what == "cut":
                wire.send(last[:-1])
            elif what == "flipped":
                wire.send(last[:-1], bytes([last[-1] ^ 1]))
                wire.is_told(f"{DAMAGED}|TLS failed")
            elif what == "plain":
                wire.send(publish("t", "plain text"))
            elif what == "huge":
                wire.send(record(23, b"", size=0xffff), b"x" * 1000)
                wire.is_told("the client sent a TLS record that is too large")
            wire.reset() if what == "reset" else wire.close()
            watcher.expect_message("will", "gone")
    watcher.expect_nothing()


@pytest.mark.parametrize("command,version,reason", [
    ("R", "-tls1_2", "it closed its connection|the client|TLS failed"),  # renegotiation
    ("K", "-tls1_3", r"asked for new keys \(KeyUpdate\)"), ("k", "-tls1_3", r"asked for new keys \(KeyUpdate\)")])
def test_new_keys_in_the_middle(broker, command, version, reason):
    """Renegotiation (TLS 1.2) is refused; KeyUpdate (1.3) ends the connection, with a word."""
    with watched(broker, peak=4 * MB):
        client = subprocess.Popen(["openssl", "s_client", "-connect", f"127.0.0.1:{broker.ports['tls']}", "-CAfile", broker.pki.ca,
                                   version], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        broker.wait_log("New connection from .* on listener 3")
        client.stdin.write(command.encode() + b"\n")
        client.stdin.flush()
        if command == "R":
            while b"RENEGOTIATING" not in (line := client.stdout.readline()):
                assert line
        output, _ = client.communicate(timeout=streams.TIMEOUT)
        assert command != "R" or b"no renegotiation" in output, output
        broker.wait_log(rf"Client 127.0.0.1 .* disconnected: .*({reason})")


def test_small_and_empty_records(broker):
    """A byte in each record, by the thousand."""
    with watched(broker, peak=4 * MB):
        stream = broker.stream("tls")
        data = connect("c") + publish("t", "x" * 1000) * fewer(20)
        for byte in data:
            stream.send(bytes([byte]))
        client = Client(stream)
        client.connack()
        client.ping()
        client.close()


# ---- sessions that are to be resumed

@pytest.mark.parametrize("version", VERSIONS)
def test_tickets_tampered_with(broker, version):
    """Each byte of a hello that resumes a session bent: a full handshake, or a refusal, never a session."""
    made = context(broker, version)
    first = broker.connect("first", "tls", options={"ca": made})
    session = first.stream.sock.session
    data, plain = hello(made, session), hello(made)
    assert len(data) > len(plain) + 100  # there is a ticket in it
    with watched(broker, peak=4 * MB):
        for at in range(5, len(data), 29 if SANITIZED else 3):
            wire = Wire(broker, "tls").send(data[:at], bytes([data[at] ^ 0x40]), data[at + 1:])
            assert wire.half_close().all()[:1] in (b"", b"\x15", b"\x16")
            wire.is_told(".")
            wire.close()
        again = made.wrap_socket(streams.tcp(broker.ports["tls"]).sock, server_hostname="localhost", session=session)
        client = Client(streams.Plain(again))  # the ticket itself still works
        client.connect("second")
        assert again.session_reused
        client.close()
    first.close()


def test_tickets_of_another_daemon(broker, attacked):
    """Or of this one before it was restarted: nobody's any more."""
    for version in VERSIONS:
        made = context(broker, version)
        session = broker.connect("first", "tls", options={"ca": made}).stream.sock.session
        other = attacked(TLS)
        sock = made.wrap_socket(streams.tcp(other.ports["tls"]).sock, server_hostname="localhost", session=session)
        client = Client(streams.Plain(sock))
        client.connect("c")
        assert not sock.session_reused


# ---- clients' certificates

class Wallet:
    """Certificates for one key, for a client that shows what it likes."""

    def __init__(self, folder, pki):
        self.dir = Path(folder)
        self.key, self.public = der.new_key()
        self.key_path = self.write("client.key", self.key.decode())
        self.ca = der.Issuer.of(pki.dir / "ca.crt", pki.dir / "ca.key")
        self.numbers = itertools.count()

    def write(self, name, text):
        path = self.dir / name
        path.write_text(text)
        return path

    def signed(self, subject=None, issuer=None, **fields):
        return der.certificate(issuer or self.ca, subject or der.name("alice"), self.public, **fields)

    def file(self, *ders):
        return self.write(f"chain{next(self.numbers)}.crt", der.pem(*ders))

    def authority(self, issuer, common):
        """A CA signed by issuer: (as issuer, its certificate)."""
        key, public = der.new_key()
        path = self.write(f"{common}.key", key.decode())
        made = der.certificate(issuer, der.name(common), public, ca=True)
        return der.Issuer(der.name(common), path), made


@pytest.fixture
def wallet(tmp_path, pki):
    return Wallet(tmp_path, pki)


@pytest.fixture
def mutual(attacked):
    return attacked(TLS + MUTUAL + "log_type all\n")


def shows(broker, cert, key, version):
    """A client that shows this certificate; True when CONNECT was accepted."""
    try:
        client = broker.client("tls2", ca=context(broker, version, cert, key))
    except (ssl.SSLError, ConnectionError):
        return False
    try:
        client.connect("c")
        client.ping()
        return True
    except (ssl.SSLError, ConnectionError, streams.Closed, AssertionError):
        return False
    finally:
        client.close()


def strange_certificates(wallet, folder):
    """What it is, the file, what the log says; None: it is accepted."""
    nobody = der.Issuer(wallet.ca.name)
    other = Pki(folder / "other")
    foreign = der.Issuer.of(other.dir / "ca.crt", other.dir / "ca.key")
    yield "good", wallet.file(wallet.signed()), None
    yield "good, with others behind it", wallet.file(wallet.signed(), *(wallet.signed(der.name(f"x{i}")) for i in range(5))), None
    yield "of another CA", wallet.file(wallet.signed(issuer=foreign)), "the client's certificate is not signed by a CA in cafile"
    yield "of another CA of the same name", wallet.file(wallet.signed(issuer=der.Issuer(wallet.ca.name, other.dir / "ca.key"))), \
        "the client's certificate is not signed by a CA in cafile"
    yield "signed by nobody", wallet.file(wallet.signed(issuer=nobody)), "the client's certificate is not signed by a CA in cafile"
    yield "signed by itself", wallet.file(wallet.signed(issuer=der.Issuer(der.name("alice"), wallet.key_path))), \
        "the client's certificate is not signed by a CA in cafile"
    yield "expired", wallet.file(wallet.signed(not_after="210101000000Z")), "the client's certificate, or one of its CAs, has expired"
    yield "not valid yet", wallet.file(wallet.signed(not_before="480101000000Z")), "the client's certificate is not valid yet"
    yield "of a server", wallet.file(wallet.signed(uses=(der.SERVER,))), "the client's certificate is (malformed, or )?not meant for clients"
    yield "an unknown critical extension", wallet.file(wallet.signed(more=[der.extension("1.2.3.4", b"\5\0", True)])), \
        "the client's certificate cannot be used: X509"
    yield "a date that is none", wallet.file(wallet.signed(not_after="219999000000Z")), "the client's certificate cannot be used: X509"
    yield "a CN with a zero byte", wallet.file(wallet.signed(der.name(b"admin\0.evil"))), "no certificate with a name to be used as user name"
    yield "an empty CN", wallet.file(wallet.signed(der.name(b""))), "no certificate with a name to be used as user name"
    yield "no CN", wallet.file(wallet.signed(der.name())), "no certificate with a name to be used as user name"
    yield "a CN of control characters", wallet.file(wallet.signed(der.name(b"x\n1795400000: New client connected"))), ".*"
    yield "a CN that is no UTF-8", wallet.file(wallet.signed(der.name(b"\xff\xfe"))), ".*"
    yield "a CN of 200 bytes", wallet.file(wallet.signed(der.name("x" * 200))), ".*"
    yield "a subject of 100 names", wallet.file(wallet.signed(der.name(*(f"n{i}" for i in range(100))))), \
        "the client's certificate cannot be used: X509"
    yield "a certificate of 15 KB", wallet.file(wallet.signed(more=[der.extension("1.2.3.4", b"x" * 14_000)])), None
    yield "a certificate of 60 KB", wallet.file(wallet.signed(more=[der.extension("1.2.3.4", b"x" * 60_000)])), "."
    yield "a chain of 60 KB", wallet.file(wallet.signed(), *(wallet.signed(der.name(f"x{i}" * 100), nobody) for i in range(90))), "."
    yield "a long chain", *long_chain(wallet, 12)


def long_chain(wallet, links):
    issuer, ders = wallet.ca, []
    for i in range(links):
        issuer, made = wallet.authority(issuer, f"link{i}")
        ders.append(made)
    return wallet.file(wallet.signed(issuer=issuer), *reversed(ders)), "the client's certificate "


@pytest.mark.parametrize("version", VERSIONS)
def test_strange_certificates(mutual, wallet, tmp_path, pki, version):
    """Accepted or refused, with a reason; a good client gets in before, between and behind them."""
    good = pki.client("alice")
    with watched(mutual, peak=12 * MB):
        for what, cert, reason in strange_certificates(wallet, tmp_path):
            before = len(mutual.log)
            accepted = shows(mutual, cert, wallet.key_path, version)
            if reason == ".*":  # accepted or not: it must not break anything
                assert shows(mutual, *good, version), what
                continue
            assert accepted == (reason is None), what
            if reason:
                mutual.wait_log(rf"Client \S+ \[.*\] (disconnected|refused): .*{reason}", since=before)
            assert shows(mutual, *good, version), what
        assert not shows(mutual, None, None, version)
        mutual.wait_log("the client sent no certificate, and this listener requires one")
    assert not re.search(r"^1795400000: New client connected$", mutual.log, re.M)


# What a CA may have signed without looking: names that are patterns, parts of others, or no text.
STRANGE_NAMES = [b"+", b"#", b"*", b"?", b"%u", b"%c", b"/", b"a+b", b"vic*", b"victim/#", b"victim ", b"VICTIM", b"victim\x01",
                 b"victim\n", b"\xff\xfe", b"victim\xff", b"victim\xcc\x81", b"\"victim\"", b"victim,CN=x", b"x" * 200]


def test_strange_names_of_certificates_give_nothing(attacked, wallet):
    """As users of the acl_file: no topic of the victim, nor its client ids, by rules, patterns or limits."""
    rules = "clientid %u-*\nuser victim\nclientid *\ntopic readwrite u/victim/#\npattern readwrite u/%u/#\n"
    broker = attacked(TLS + MUTUAL + "acl_file {dir}/acl\n", files={"acl": rules})
    good = wallet.file(wallet.signed(der.name("victim")))
    victim = Client(broker.stream("tls2", ca=context(broker, None, good, wallet.key_path)))
    victim.connect("v")
    victim.publish("u/victim/kept", "secret", 1, retain=True)
    victim.subscribe(("u/victim/#", 1))
    victim.expect_message("u/victim/kept")
    came_in = 0
    for name in STRANGE_NAMES:
        try:
            made = context(broker, None, wallet.file(wallet.signed(der.name(name))), wallet.key_path)
        except ssl.SSLError:
            continue  # not even the client's library reads it
        for client_id in ("victim-1", "v", ""):
            try:
                client = Client(broker.stream("tls2", ca=made))
                client.send(connect(client_id))
                assert client.next().body[1:] == bytes([5]), name
                client.expect_closed()
            except (ssl.SSLError, ConnectionError, streams.Closed):
                pass  # mbedTLS or the broker would not even have the certificate
        try:
            own = name.decode() + "-1"
            client = Client(broker.stream("tls2", ca=made))
            client.send(connect(own))
            code = client.next().body[1]
        except (UnicodeDecodeError, ssl.SSLError, ConnectionError, streams.Closed):
            continue
        came_in += code == 0
        if code == 0:  # with its own name in its client id
            client.subscribe(("#", 1), ("u/victim/kept", 1), ("u/+/#", 1))
            client.publish("u/victim/x", "forged", 1)
            client.expect_nothing()
    assert came_in > 10
    victim.expect_nothing()
    victim.ping()


def cpu_time(broker):
    """Nanoseconds of all threads."""
    return sum(int(Path(task, "schedstat").read_text().split()[0]) for task in Path(f"/proc/{broker.pid}/task").iterdir())


def bombs(wallet):
    """Chains that fit into one message and would keep a processor busy for seconds: signatures to check for nothing, by keys
    that make it as dear as can be."""
    anybody = der.name("x")
    for what, count, public, algorithm in (
            ("RSA exponents as long as the modulus", 4, lambda: der.rsa_public(8192, (1 << 8191) - 1), der.RSA),
            ("RSA keys of 8192 bits", 6, lambda: der.rsa_public(8192, 65537), der.RSA),
            ("expired ones on P-521", 36, lambda key=der.new_key("secp521r1")[1]: key, der.ECDSA)):
        signer = der.Issuer(anybody, None, algorithm)
        chain = [wallet.signed(issuer=signer)]
        chain += [der.certificate(signer, anybody, public(), ca=True, not_after="210101000000Z") for _ in range(count)]
        yield what, wallet.file(*chain)


@pytest.mark.skipif("system" in Path(PROGRAM).parts, reason="an installed mbedTLS does not have these bounds: see .ci/*.patch")
@pytest.mark.parametrize("version", VERSIONS)
def test_chain_bomb(mutual, wallet, pki, version):
    """A chain that nobody signed costs less than a hundred honest handshakes do (that of a client at work: 2 ms)."""
    good = pki.client("alice")
    assert shows(mutual, *good, version)
    before = cpu_time(mutual)
    for _ in range(10):
        assert shows(mutual, *good, version)
    honest = (cpu_time(mutual) - before) / 10
    for what, cert in bombs(wallet):
        since, before = len(mutual.log), cpu_time(mutual)
        assert not shows(mutual, cert, wallet.key_path, version)
        mutual.wait_log("Client .* disconnected: the client's certificate", since=since)
        cost = (cpu_time(mutual) - before) / honest
        print(f"{what}: {cost:.0f} handshakes")
        assert cost < 100, what
