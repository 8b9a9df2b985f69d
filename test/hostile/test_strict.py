"""Nothing fails open: a security option that is misspelt, empty, damaged, pointing at nothing, given twice or in the wrong
place is refused with file and line, or is as strict as it can be read. At the start, and at a reload.
"""

import os
import re

import pytest

from bramble import LISTENER, SANITIZED, Broker, Failed, Pki, run
from rawmqtt import BAD_LOGIN, NOT_AUTHORISED
from streams import Closed, HttpError

LOCKED = "allow_anonymous false\npassword_file {dir}/passwd\nacl_file {dir}/acl\n"
FILES = {"passwd": "one:secret", "acl": "user one\ntopic readwrite one/#\n"}
TCP, TLS = LISTENER["tcp"], LISTENER["tls"]
MUTUAL = TLS + "cafile {pki}/ca.crt\nrequire_certificate true\nuse_identity_as_username true\n"

# what: (configuration, line, words of the refusal)
REFUSED = {
    "per_listener_settings said late": ("allow_anonymous false\nper_listener_settings true\n" + TCP, 2, "must be set before"),
    "own password_file without its listener": ("per_listener_settings true\npassword_file {dir}/passwd\n" + TCP, 2,
                                               "requires a listener"),
    "own allow_anonymous without its listener": ("per_listener_settings true\nallow_anonymous false\n" + TCP, 2,
                                                 "requires a listener"),
    "anonymous and not": ("allow_anonymous false\nallow_anonymous true\n" + TCP, 2, "another value"),
    "not anonymous and yes": ("allow_anonymous true\n" + TCP + "allow_anonymous false\n", 3, "another value"),
    "anonymous and not, at one listener": (TCP + "listener_allow_anonymous false\nlistener_allow_anonymous true\n", 3,
                                           "another value"),
    "a certificate and none": (MUTUAL + "require_certificate false\n", 7, "another value"),
    "two password files": (LOCKED + "password_file {dir}/other\n" + TCP, 4, "Duplicate 'password_file'"),
    "two ACL files": (LOCKED + "acl_file {dir}/other\n" + TCP, 4, "Duplicate 'acl_file'"),
    "two CA files": (MUTUAL + "cafile {pki}/ca.crt\n", 7, "Duplicate 'cafile'"),
    "two versions of TLS": (TLS + "tls_version tlsv1.3\ntls_version tlsv1.2\n", 5, "Duplicate 'tls_version'"),
    "two users": ("user nobody\nuser root\n" + TCP, 2, "another value"),
    "no switch": (LOCKED.replace("false", "False") + TCP, 1, "must be true or false"),
    "no switch either": (LOCKED.replace("false", "no") + TCP, 1, "must be true or false"),
    "more than a switch": (LOCKED.replace("false", "false true") + TCP, 1, "too much"),
    "a certificate, perhaps": (MUTUAL.replace("require_certificate true", "require_certificate yes"), 5, "must be true or false"),
    "TLS of long ago": (TLS + "tls_version tlsv1.1\n", 4, "no longer secure"),
    "TLS of no time": (TLS + "tls_version tls\n", 4, "must be tlsv1.2 or tlsv1.3"),
    "no encryption": (TLS + "ciphers NULL-SHA256\n", 1, "NULL-SHA256"),
    "no authentication": (TLS + "ciphers aNULL\n", 1, "ciphers"),
    "no cipher": (TLS + "ciphers nonsense\n", 1, "nonsense"),
    "no cipher of TLS 1.3": (TLS + "ciphers_tls1.3 nonsense\n", 1, "nonsense"),
    "a certificate without a key": (TCP + "certfile {pki}/server.crt\n", 2, "keyfile is missing"),
    "a key without a certificate": (TCP + "keyfile {pki}/server.key\n", 2, "certfile is missing"),
    "a CA without TLS": (TCP + "cafile {pki}/ca.crt\n", 2, "would not be encrypted"),
    "clients' certificates without TLS": (TCP + "require_certificate true\n", 2, "without certfile and keyfile"),
    "clients' certificates without a CA": (TLS + "require_certificate true\n", 4, "needs cafile or capath"),
    "TLS above all listeners": ("certfile {pki}/server.crt\nkeyfile {pki}/server.key\n" + TCP, 1, "comes before any 'listener'"),
    "clients' certificates above all listeners": ("require_certificate true\n" + TLS, 1, "comes before any 'listener'"),
    "an interface above all listeners": ("bind_interface lo\n" + TCP, 1, "comes before any 'listener'"),
    "a listener that is none": ("listener {tcp}:127.0.0.1\n", 1, "not a number"),
    "an address that is none": ("listener {tcp} 127.0.0.1.2\n", 1, "127.0.0.1.2"),
    "an address of another machine": ("listener {tcp} 192.0.2.1\n", 1, "this machine does not have that address"),
    "an interface that is none": (TCP + "bind_interface nonsense0\n", 1, "set the options of the socket"),
    "two addresses": ("bind_address 127.0.0.1\nbind_address 0.0.0.0\nport {tcp}\n", 2, "Duplicate 'bind_address'"),
    "a plugin": (LOCKED + "auth_plugin /usr/lib/x.so\n" + TCP, 4, "not supported"),
    "pre-shared keys": (LOCKED + "psk_file {dir}/psk\n" + TCP, 4, "not supported"),
    "the PROXY protocol": (TCP + "proxy_protocol_v2_require_tls true\n", 2, "not possible"),
    "expired certificates": (MUTUAL + "disable_client_cert_date_checks true\n", 7, "not possible"),
    "a page without WebSocket": (TCP + "http_dir {dir}\n", 2, "needs 'protocol websockets'"),
    "an origin without WebSocket": (TCP + "websockets_origin https://example.org\n", 2, "needs 'protocol websockets'"),
}

SECURITY = {"allow_anonymous": "false", "password_file": "{dir}/passwd", "acl_file": "{dir}/acl", "clientid_prefixes": "x",
            "auto_id_prefix": "x", "allow_zero_length_clientid": "false", "check_retain_source": "true",
            "listener_allow_anonymous": "false", "per_listener_settings": "true", "user": "nobody", "max_connections": "5",
            "use_username_as_clientid": "true", "bind_interface": "lo", "websockets_origin": "https://example.org",
            "mount_point": "x/", "cafile": "{pki}/ca.crt", "capath": "{pki}", "certfile": "{pki}/server.crt",
            "keyfile": "{pki}/server.key", "crlfile": "{dir}/crl", "ciphers": "HIGH", "ciphers_tls1.3": "TLS_AES_128_GCM_SHA256",
            "tls_version": "tlsv1.3", "require_certificate": "true", "use_identity_as_username": "true",
            "use_subject_as_username": "true", "listener": "{tcp} 127.0.0.1", "bind_address": "127.0.0.1", "port": "{tcp}",
            "include_dir": "{dir}/conf.d", "accept_protocol_versions": "4"}

for option, good in SECURITY.items():
    for how, wrong in {"misspelt": option[:-1] + ("y" if option.endswith("x") else "x"), "with a letter less": option[:3] + option[4:],
                       "in capitals": option.upper()}.items():
        if SANITIZED and how != "misspelt":
            continue  # each costs a second there
        REFUSED[f"{option} {how}"] = (TCP + f"{wrong} {good}\n", 2, "Unknown configuration variable")
    REFUSED[f"{option} with ="] = (TCP + f"{option}={good}\n", 2, "Unknown configuration variable")
    REFUSED[f"{option} empty"] = (TCP + f"{option}  \n", 2, f"Empty '{option}")

for option in ("password_file", "acl_file"):
    for how, target in {"nowhere": "{dir}/nowhere", "the folder": "{dir}", "in quotes": '"{dir}/passwd"',
                        "with a comment": "{dir}/passwd # users"}.items():
        REFUSED[f"{option} {how}"] = (TCP + f"allow_anonymous true\n{option} {target}\n", 3, option)
for option in ("certfile", "keyfile", "cafile", "capath", "crlfile"):
    for how, target in {"nowhere": "{dir}/nowhere", "a socket": "{dir}/passwd/x", "/dev/null": "/dev/null"}.items():
        text = re.sub(rf"{option} .*\n", "", MUTUAL) + f"{option} {target}\n"
        REFUSED[f"{option} {how}"] = (text, 1, option)

NOT_BY_TEST = {"an address that is none", "an address of another machine", "an interface that is none"}  # -t opens no socket


def filled(broker, case):
    text, line, words = REFUSED[case]
    broker.ports.setdefault("tcp", 0)
    broker.path.write_text(broker.fill(text))
    return f"{broker.path}:{line}: ", words


@pytest.fixture
def place(tmp_path, pki):
    broker = Broker(tmp_path / "broker", TCP, pki, files={**FILES, "conf.d/own.conf": ""}, verbatim=True)
    yield broker
    broker.kill()


@pytest.mark.parametrize("case", REFUSED)
def test_refused(place, case):
    begin, words = filled(place, case)
    if case not in NOT_BY_TEST:
        done = run("-t", "-c", place.path)
        assert done.returncode == 3, done.stderr
        said = done.stderr
    else:
        with pytest.raises(Failed) as failed:
            place.start()
        place._notify.close()
        assert failed.value.status == 1
        said = failed.value.text
    errors = [line for line in said.split("\n") if line.startswith(begin + "Error: ")]
    assert len(errors) == 1 and words in errors[0], said


def test_refused_at_a_reload(start, pki):
    """All of them, one after the other, in one daemon: it stays as it was."""
    broker = start(LOCKED + TCP, files={**FILES, "conf.d/own.conf": ""})
    broker.pki = pki
    inside = broker.connect("inside", user="one", password="secret")
    inside.subscribe("#")
    cases = [case for case in REFUSED if case not in NOT_BY_TEST]
    for count, case in enumerate(cases, 1):
        text, _, words = REFUSED[case]
        broker.path.write_text(broker.fill(text))
        at = len(broker.log)
        broker.reload()
        broker.wait_log(r"Reload failed: everything stays as it was|Until then the old options stay", count)
        said = broker.log[at:]
        assert words in said or "Until then the old options stay" in said, case
        if count % 20 == 0:
            broker.client().connect("x", expect=NOT_AUTHORISED)
            broker.client().connect("x", user="one", password="wrong", expect=NOT_AUTHORISED)
    inside.publish("other", "not allowed", 1)
    inside.ping()
    inside.publish("one/x", "allowed", 0)
    inside.expect_message("one/x", "allowed")


# ---- what can be read, and is read strictly

def nobody_comes_in(broker, port="tcp"):
    broker.client(port).connect("x", expect=NOT_AUTHORISED)
    broker.client(port).connect("x", user="one", password="secret", expect=NOT_AUTHORISED)
    broker.client(port).connect("x", user="", password="", expect=NOT_AUTHORISED)


@pytest.mark.parametrize("target", ["/dev/null", "{dir}/empty", "{dir}/comments"])
def test_empty_files_are_for_nobody(start, target):
    files = {**FILES, "empty": "", "comments": "# nothing\n\n"}
    broker = start(LOCKED.replace("{dir}/passwd", target) + TCP, files=files)
    nobody_comes_in(broker)
    broker = start(LOCKED.replace("{dir}/acl", target) + TCP, files=files)
    client = broker.connect("c", user="one", password="secret")
    client.subscribe("#")
    client.publish("one/x", "x", 1)
    client.ping()


def test_a_listener_alone_is_closed(start):
    """mosquitto 2's rule: whoever opens a listener to the network has to say who may come."""
    broker = start(TCP, verbatim=True)
    nobody_comes_in(broker)
    broker.wait_log("Nobody can connect to this listener")


def test_general_rules_below_one_listener_are_for_all(start):
    """Without per_listener_settings the place of an ACL or password file does not matter."""
    broker = start(TCP + "listener {tcp2} 127.0.0.1\n" + LOCKED, files=FILES)
    for port in ("tcp", "tcp2"):
        broker.client(port).connect("x", expect=NOT_AUTHORISED)
        broker.client(port).connect("x", user="one", password="wrong", expect=NOT_AUTHORISED)
        client = broker.connect(port, port, user="one", password="secret")
        client.subscribe("#")
        client.publish("other", "x", 1)
        client.ping()


def test_the_stricter_of_general_and_own(start):
    broker = start("allow_anonymous true\n" + TCP + "listener_allow_anonymous false\nlistener {tcp2} 127.0.0.1\n")
    nobody_comes_in(broker)
    broker.connect("x", "tcp2")


def test_options_of_an_included_file_are_not_for_the_listener_before(tmp_path, pki):
    """They would guard another listener: refused, in the included file's line."""
    broker = Broker(tmp_path / "broker", TLS + "allow_anonymous true\ninclude_dir {dir}/conf.d\n", pki,
                    files={"conf.d/tls.conf": "# for the TLS listener\nrequire_certificate true\n"})
    done = run("-t", "-c", broker.path)
    assert done.returncode == 3
    assert f"{broker.dir}/conf.d/tls.conf:2: Error: 'require_certificate' comes before any 'listener' of its file" in done.stderr


def test_names_of_certificates_without_certificates(start, pki):
    """use_identity_as_username without require_certificate: nobody has a name, so nobody comes in, whatever he says."""
    broker = start(LOCKED + TLS + "use_identity_as_username true\n" + TCP + "use_subject_as_username true\n", files=FILES)
    for port in ("tls", "tcp"):
        broker.client(port).connect("x", expect=BAD_LOGIN)
        broker.client(port).connect("x", user="one", password="secret", expect=BAD_LOGIN)
    broker.wait_log("Nobody can connect to this listener", 2)


def test_certificates_of_others(start, pki, tmp_path):
    """Another CA's, none, an expired CRL: no."""
    other = Pki(tmp_path / "other")
    broker = start(MUTUAL + TCP + "listener_allow_anonymous true\n", files=FILES)
    cert, key = other.client("one")
    for options in ({}, {"cert": cert, "key": key}):
        with pytest.raises((Closed, OSError)):
            broker.connect("x", "tls", options=options)
    cert, key = pki.client("one")
    broker.connect("x", "tls", options={"cert": cert, "key": key})


@pytest.mark.parametrize("origin", ["*", "null", "https://", "https://example.org/"])
def test_origins_are_no_patterns(start, origin):
    broker = start(f"allow_anonymous true\n{LISTENER['ws']}websockets_origin {origin}\n")
    with pytest.raises(HttpError):
        broker.client("ws", origin="https://example.org")


def test_user_that_is_none(tmp_path):
    """As root: no start, rather than one as root."""
    broker = Broker(tmp_path / "broker", "\nuser nobody-here\n" + TCP)
    if os.geteuid() == 0:
        with pytest.raises(Failed) as failed:
            broker.start()
        broker._notify.close()
        assert f"{broker.path}:2: Error: user: user nobody-here: there is no such user" in failed.value.text
    else:
        broker.start()  # there are no rights to give up
        broker.stop()


def test_user_names_that_nobody_checks_are_warned_of(start):
    """ACLs by user name, anonymous clients and no password file: whoever says that he is one, is."""
    broker = start("allow_anonymous true\nacl_file {dir}/acl\n" + TCP, files=FILES)
    broker.wait_log("user names are not checked")
