"""TLS: certificates of both sides, versions, the chain, lists of revoked certificates; handshakes that hold nobody up."""

import ssl
import subprocess

import pytest

import streams
from bramble import LISTENER, Client, Failed, Pki, run
from rawmqtt import connect
from streams import Closed, tcp, tls_context

MUTUAL = LISTENER["tls"] + "cafile {pki}/ca.crt\nrequire_certificate true\n"
IDENTITY = MUTUAL + "use_identity_as_username true\n"


def refused(broker, **options):
    """The handshake fails; with TLS 1.3 the client hears of it at its first read."""
    with pytest.raises((ssl.SSLError, ConnectionError, Closed)):
        broker.connect("c", "tls", options=options)
    return True


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_versions(start, pki, version):
    broker = start(LISTENER["tls"])
    context = tls_context(pki.ca)
    context.minimum_version = context.maximum_version = version
    client = broker.connect("c", "tls", options={"ca": context})
    client.ping()
    broker.wait_log("as c .*" + version.name.replace("_", "."))


def test_certificate_of_make_run_is_accepted(start, pki):
    """By name and by address, as OpenSSL checks it."""
    broker = start(LISTENER["tls"])
    for name in ("localhost", "127.0.0.1", "::1"):
        streams.tls(tcp(broker.ports["tls"]), tls_context(pki.ca), name).close()
    with pytest.raises(ssl.SSLCertVerificationError):
        streams.tls(tcp(broker.ports["tls"]), tls_context(pki.ca), "example.org")
    with pytest.raises(ssl.SSLCertVerificationError):
        streams.tls(tcp(broker.ports["tls"]), ssl.create_default_context(), "localhost")


def test_lowest_version(start, pki):
    broker = start(LISTENER["tls"] + "tls_version tlsv1.3\n")
    context = tls_context(pki.ca)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert refused(broker, ca=context)
    broker.connect("c", "tls")


def test_ciphers(start, pki):
    broker = start(LISTENER["tls"] + "ciphers ECDHE-ECDSA-CHACHA20-POLY1305\n")
    context = tls_context(pki.ca)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    stream = broker.stream("tls", ca=context)
    assert stream.sock.cipher()[0] == "ECDHE-ECDSA-CHACHA20-POLY1305"
    context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    assert refused(broker, ca=context)


def test_unknown_cipher_is_an_error(start):
    with pytest.raises(Failed) as failed:
        start(LISTENER["tls"] + "ciphers NONSENSE\n")
    assert failed.value.status == 3 and "NONSENSE" in failed.value.text and "bramble.conf:" in failed.value.text


def test_session_resumption(start, pki):
    broker = start(LISTENER["tls"])
    context = tls_context(pki.ca)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    session = broker.stream("tls", ca=context).sock.session
    again = context.wrap_socket(tcp(broker.ports["tls"]).sock, server_hostname="localhost", session=session)
    assert again.session_reused
    client = Client(streams.Plain(again))
    client.connect("c")
    client.ping()


def test_require_certificate(start, pki, tmp_path):
    broker = start(MUTUAL)
    cert, key = pki.client("alice")
    broker.connect("c", "tls", options={"cert": cert, "key": key}).ping()
    assert refused(broker)
    stranger = Pki(tmp_path / "stranger").client("alice")
    assert refused(broker, cert=stranger[0], key=stranger[1])
    broker.wait_log(r"\[127\.0\.0\.1:\d+\] disconnected: .*certificate", 2)


def test_identity_as_username(start, pki):
    """The certificate's name is the user; what CONNECT says does not count."""
    broker = start("acl_file {dir}/acl\n" + IDENTITY, files={"acl": "user alice\ntopic readwrite alice/#\n"})
    cert, key = pki.client("alice")
    alice = broker.connect("a", "tls", options={"cert": cert, "key": key}, user="bob", password="x")
    alice.subscribe(("#", 1))
    cert, key = pki.client("bob")
    bob = broker.connect("b", "tls", options={"cert": cert, "key": key}, user="alice", password="x")
    bob.publish("alice/x", "forged", 1)
    alice.publish("alice/x", "own")
    alice.expect_message("alice/x", "own")
    alice.expect_nothing()
    broker.wait_log("as a .*u'alice'")
    broker.wait_log("as b .*u'bob'")


def test_identity_on_secure_websocket(start, pki):
    broker = start(IDENTITY.replace("{tls}", "{wss}") + "protocol websockets\n")
    cert, key = pki.client("alice")
    broker.connect("a", "wss", options={"cert": cert, "key": key}).ping()
    broker.wait_log("as a .*u'alice'")


def test_subject_as_username(start, pki):
    """The whole subject is the user of the acl_file, for its topics and for its limits."""
    cert, key = pki.client("alice")
    subject = subprocess.run(["openssl", "x509", "-in", cert, "-noout", "-subject", "-nameopt", "RFC2253"], capture_output=True,
                             text=True, check=True).stdout.strip().removeprefix("subject=")
    broker = start("acl_file {dir}/acl\n" + MUTUAL + "use_subject_as_username true\n",
                   files={"acl": f"clientid nobody\nuser {subject}\nqos 0\nclientid a\ntopic readwrite alice/#\n"})
    alice = broker.connect("a", "tls", options={"cert": cert, "key": key})
    broker.wait_log("as a .*u'CN=alice")
    alice.subscribe("#")
    alice.publish("alice/x", "denied", 1)
    alice.publish("bob/x", "denied")
    alice.publish("alice/x", "own")
    alice.expect_message("alice/x", "own")
    alice.expect_nothing()
    broker.client("tls", cert=cert, key=key).connect("b", expect=5)
    broker.client("tls", cert=pki.client("bob")[0], key=pki.client("bob")[1]).connect("a", expect=5)


def test_limits_of_an_identity(start, pki):
    """The certificate's name is the user whose limits count, and a reload ends what they no longer allow."""
    broker = start("acl_file {dir}/acl\n" + IDENTITY, files={"acl": "clientid %u-?\nuser alice\naddress 127.0.0.1\ntopic a\n"})
    alice, bob = ({"cert": cert, "key": key} for cert, key in map(pki.client, ("alice", "bob")))
    broker.client("tls", **bob).connect("alice-1", user="alice", expect=5)
    broker.connect("bob-1", "tls", options=bob).ping()
    client = broker.connect("alice-1", "tls", options=alice, user="bob")
    broker.write("acl", "user alice\naddress 192.0.2.1\ntopic a\n")
    broker.reload()
    client.expect_closed()
    broker.client("tls", **alice).connect("alice-1", expect=5)
    broker.connect("bob", "tls", options=bob).ping()


def test_identity_survives_resumption(start, pki):
    """A second connection that would resume must show its certificate again, or be known by it."""
    broker = start(IDENTITY)
    cert, key = pki.client("alice")
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = tls_context(pki.ca, cert, key)
        context.minimum_version = context.maximum_version = version
        first = broker.connect("a", "tls", options={"ca": context})
        session = first.stream.sock.session
        sock = context.wrap_socket(tcp(broker.ports["tls"]).sock, server_hostname="localhost", session=session)
        client = Client(streams.Plain(sock))
        client.connect("b")
        client.ping()
    broker.wait_log("as b .*u'alice'", 2)


def openssl(folder, *args):
    done = subprocess.run(["openssl", *map(str, args)], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_revoked_certificates(start, tmp_path):
    """crlfile: refused from the next handshake after the reload on."""
    own = Pki(tmp_path / "own")
    cert, key = own.client("alice")
    cert2, key2 = own.client("bob")
    (own.dir / "index.txt").write_text("")
    (own.dir / "crlnumber").write_text("01\n")
    (own.dir / "ca.cnf").write_text("[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ncrlnumber=crlnumber\ndefault_md=sha256\n"
                                    "default_crl_days=30\ncertificate=ca.crt\nprivate_key=ca.key\n")
    openssl(own.dir, "ca", "-config", "ca.cnf", "-gencrl", "-out", "list.pem")
    broker = start((MUTUAL + "crlfile {pki}/list.pem\n").replace("{pki}", str(own)))
    broker.pki = own
    broker.connect("a", "tls", options={"cert": cert, "key": key}).ping()
    openssl(own.dir, "ca", "-config", "ca.cnf", "-revoke", cert)
    openssl(own.dir, "ca", "-config", "ca.cnf", "-gencrl", "-out", "list.pem")
    broker.reload()
    assert refused(broker, cert=cert, key=key)
    broker.connect("b", "tls", options={"cert": cert2, "key": key2}).ping()


@pytest.mark.parametrize("kind", ["rsa:2048", "ec"])
def test_certificates_of_openssl(start, tmp_path, kind):
    """A chain with an intermediate CA, RSA as well as EC."""
    new = ["req", "-newkey", kind, "-nodes", *(["-pkeyopt", "ec_paramgen_curve:P-256"] if kind == "ec" else [])]
    openssl(tmp_path, *new, "-x509", "-subj", "/CN=root", "-keyout", "root.key", "-out", "root.crt", "-days", "2",
            "-addext", "basicConstraints=critical,CA:true")
    (tmp_path / "ca.ext").write_text("basicConstraints=critical,CA:true\n")
    (tmp_path / "server.ext").write_text("subjectAltName=DNS:localhost\n")
    for name, issuer, extensions in (("middle", "root", "ca.ext"), ("leaf", "middle", "server.ext")):
        openssl(tmp_path, *new, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl(tmp_path, "x509", "-req", "-in", f"{name}.csr", "-CA", f"{issuer}.crt", "-CAkey", f"{issuer}.key",
                "-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", f"{name}.crt")
    (tmp_path / "chain.crt").write_text((tmp_path / "leaf.crt").read_text() + (tmp_path / "middle.crt").read_text())
    broker = start(f"listener {{tls}} 127.0.0.1\ncertfile {tmp_path}/chain.crt\nkeyfile {tmp_path}/leaf.key\n")
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = tls_context(tmp_path / "root.crt")  # knows the root only
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # Python 3.13 wants more extensions than guides make
        context.maximum_version = version
        broker.connect("c", "tls", options={"ca": context}).ping()


def test_slow_handshakes_hold_nobody_up(start, pki):
    """Connections that stop in the middle of their handshake, more than there are workers."""
    broker = start(LISTENER["tls"] + "tls_threads 1\n")
    record = bytes.fromhex("16030100050100000102")  # a hello that has only begun
    stuck = [tcp(broker.ports["tls"]) for _ in range(50)]
    for stream in stuck:
        stream.send(record)
    for _ in range(5):
        broker.connect("c", "tls").ping()
    for stream in stuck:
        stream.close()


def test_reconnect_storm(start, pki):
    """Handshakes of many at once, while a client that is connected gets its answers."""
    broker = start(LISTENER["tls"])
    first = broker.connect("first", "tls")
    context = tls_context(pki.ca)
    clients = []
    for i in range(60):
        stream = tcp(broker.ports["tls"])
        stream.sock.settimeout(streams.TIMEOUT)
        sock = context.wrap_socket(stream.sock, server_hostname="localhost", do_handshake_on_connect=False)
        sock.setblocking(False)
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            pass
        clients.append(sock)
    first.ping()
    for i, sock in enumerate(clients):
        sock.settimeout(streams.TIMEOUT)
        sock.do_handshake()
        client = Client(streams.Plain(sock))
        client.send(connect(f"c{i}"))
        client.connack()


def test_cert_show_says_what_was_made(pki):
    done = run("cert", "show", pki.dir / "server.crt")
    assert done.returncode == 0
    assert "localhost" in done.stdout and "127.0.0.1" in done.stdout
