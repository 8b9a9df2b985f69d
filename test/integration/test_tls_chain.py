"""TLS set-ups made with openssl, as mosquitto's guides make them: the leaf in certfile, all CAs in cafile."""

import socket
import ssl
import subprocess

import pytest

CONNECT = bytes([0x10, 12, 0, 4]) + b"MQTT" + bytes([4, 2, 0, 60, 0, 0])


def openssl(*args):
    subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    """root.crt signs mid.crt, which signs server.crt (RSA, openssl req and x509)."""
    folder = tmp_path_factory.mktemp("openssl")
    extensions = folder / "ca.ext"
    extensions.write_text("basicConstraints=critical,CA:true\n")
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", 30, "-subj", "/O=Test/CN=Root", "-keyout",
            folder / "root.key", "-out", folder / "root.crt")
    names = [("mid", "/O=Test/CN=Signing", "root", ["-extfile", extensions]), ("server", "/CN=localhost", "mid", [])]
    for name, subject, signer, more in names:
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", subject, "-keyout", folder / f"{name}.key", "-out",
                folder / f"{name}.csr")
        openssl("x509", "-req", "-days", 30, "-in", folder / f"{name}.csr", "-CA", folder / f"{signer}.crt", "-CAkey",
                folder / f"{signer}.key", "-CAcreateserial", "-out", folder / f"{name}.crt", *more)
    both = (folder / "root.crt").read_text() + (folder / "mid.crt").read_text()
    (folder / "all.crt").write_text(both)
    return folder


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_issuers_between_leaf_and_root_come_from_cafile(start, ca, version):
    broker = start(f"listener {{tls}} 127.0.0.1\ncafile {ca}/all.crt\ncertfile {ca}/server.crt\nkeyfile {ca}/server.key\n"
                   "allow_anonymous true\n")
    context = ssl.create_default_context(cafile=str(ca / "root.crt"))
    context.minimum_version = context.maximum_version = version
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # Python 3.13 wants more extensions than guides make
    context.check_hostname = False  # openssl x509 -req copies no alternative names
    with socket.create_connection(("127.0.0.1", broker.ports["tls"])) as plain, context.wrap_socket(plain) as client:
        client.sendall(CONNECT)
        assert client.recv(4) == bytes([0x20, 2, 0, 0])


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("kind", ["none", "foreign", "good"])
def test_require_certificate(start, ca, pki, version, kind):
    """No certificate, or one of another CA: refused, never served; in TLS 1.3 the client can read why."""
    broker = start(f"listener {{tls}} 127.0.0.1\ncafile {{pki}}/ca.crt\ncertfile {ca}/server.crt\nkeyfile {ca}/server.key\n"
                   "require_certificate true\nuse_identity_as_username true\n")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    if kind == "foreign":
        context.load_cert_chain(ca / "server.crt", ca / "server.key")
    elif kind == "good":
        context.load_cert_chain(*pki.client("somebody"))
    answer = b""
    with socket.create_connection(("127.0.0.1", broker.ports["tls"])) as plain:
        if kind == "good":
            with context.wrap_socket(plain) as client:
                client.sendall(CONNECT)
                assert client.recv(4) == bytes([0x20, 2, 0, 0])
            return
        with pytest.raises(ssl.SSLError, match="CERTIFICATE|UNKNOWN_CA|HANDSHAKE_FAILURE|EOF") as error:
            with context.wrap_socket(plain) as client:
                client.sendall(CONNECT)
                answer = client.recv(4)
        assert "BAD_RECORD_MAC" not in str(error.value)
    assert answer == b""
    assert version == ssl.TLSVersion.TLSv1_2 or "EOF" not in str(error.value)
