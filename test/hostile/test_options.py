"""Every directive of config/directives.def at its limits: refused with file, line and reason, or the daemon runs with it and
serves, from the start or from a reload on.
"""

import re

import pytest

from bramble import LISTENER, TOP, Broker, run
from rawmqtt import PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, Client, ack, publish
from streams import Closed, HttpError

INT = {"INT32_MIN": -2**31, "INT32_MAX": 2**31 - 1, "INT64_MIN": -2**63, "INT64_MAX": 2**63 - 1, "UINT32_MAX": 2**32 - 1}
ROW = re.compile(r'^OPTION\("(?P<name>[^"]+)",\s*(?P<scope>\w+),\s*(?P<type>\w+),\s*\w+,\s*(?P<default>NULL|"[^"]*"),\s*'
                 r'(?P<low>[-\w]+),\s*(?P<high>[-\w]+),\s*(?P<when>RELOAD|RESTART),', re.M)
OPTIONS = [match.groupdict() for match in ROW.finditer((TOP / "config" / "directives.def").read_text())]
NUMBERS = [row for row in OPTIONS if row["type"] in ("INT", "LIMIT", "U32", "COUNT", "U64", "BYTES")]
SWITCHES = [row["name"] for row in OPTIONS if row["type"] == "BOOL"]
ALL = "allow_anonymous true\n" + "".join(LISTENER.values())


def number(text):
    return INT[text] if text in INT else int(text)


def test_the_table_was_read():
    assert len(OPTIONS) > 50 and len(NUMBERS) >= 20 and len(SWITCHES) > 10


def place(row, value):
    """Where the directive may stand: below the first listener, or above all."""
    line = f"{row['name']} {value}\n"
    if row["scope"] in ("LISTENER", "DECLARED", "OVERRIDE"):
        return "allow_anonymous true\n" + "".join(LISTENER[kind] + line for kind in LISTENER)
    return line + ALL


# ---- what is refused

def refused(tmp_path, row, value):
    broker = Broker(tmp_path / "broker", place(row, value), verbatim=True, pki=tmp_path)
    line = broker.path.read_text().split("\n").index(f"{row['name']} {value}") + 1
    done = run("-t", "-c", broker.path)
    assert done.returncode == 3, f"{row['name']} {value}: {done.stderr}"
    last = done.stderr.strip().split("\n")[-1]
    assert last.startswith(f"{broker.path}:{line}: Error: ") and row["name"] in last, last


@pytest.mark.parametrize("row", NUMBERS, ids=lambda row: row["name"])
def test_numbers_beyond(tmp_path, row):
    """More of the kind, for each directive: test/unit/config/test_table.c."""
    for value in (number(row["low"]) - 1, number(row["high"]) + 1, 2**64, ""):
        refused(tmp_path, row, value)


@pytest.mark.parametrize("value", [-2**64, 10**400, "ten", "1e3", "0x", "--1", "١", "0 0"])
def test_no_numbers(tmp_path, value):
    refused(tmp_path, NUMBERS[0], value)


@pytest.mark.parametrize("name", ["persistent_client_expiration", "log_facility", "max_qos"])
@pytest.mark.parametrize("value", ["0d", "-1d", "9223372036854775807y", "18446744073709551616s", "99999999999999999999d", "d", "1"])
def test_durations_and_small_numbers_beyond(tmp_path, name, value):
    row = next(row for row in OPTIONS if row["name"] == name)
    if name == "persistent_client_expiration" or value != "1":
        refused(tmp_path, row, value)


# ---- what is accepted

def exchange(client, payload, qos, out=None, retain=False):
    """A message to itself, and all acknowledgements of both directions, in whatever order. out: the QoS it comes back at."""
    out = qos if out is None else out
    client.send(publish("t", payload, qos, retain, 77 if qos else 0))
    missing = {PUBLISH} | ({PUBACK} if qos == 1 else {PUBCOMP} if qos == 2 else set())
    while missing:
        got = client.next()
        if got.kind == PUBLISH:
            assert (got.payload, got.qos) == (payload, out)
            if out:
                client.send(ack(PUBREC if out == 2 else PUBACK, got.mid))
            client.released |= {got.mid} if out == 2 else set()
        if got.kind == PUBREC:
            client.send(ack(PUBREL, got.mid))
        missing.discard(got.kind)


def serves(broker, port, name="", value=None):
    """QoS 0, 1 and 2, a retained message, a ping."""
    keepalive = 1 if name == "max_keepalive" and value not in (0, 65535) else 60
    try:
        client = Client(broker.stream(port))
    except (HttpError, Closed, ConnectionError):
        assert name == "websockets_headers_size" and 0 < value < 200 and port in ("ws", "wss")
        return
    client.connect("c", user="c" if name == "use_username_as_clientid" else None, keepalive=keepalive)
    top = value if name == "max_qos" else 2
    assert client.subscribe(("t", 2)) == [top]
    for qos in range(top + 1):
        exchange(client, b"x", qos, 2 if (name, value) == ("upgrade_outgoing_qos", "true") else qos)
    exchange(client, b"y", top, retain=True)
    client.unsubscribe("t")
    client.subscribe(("t", 0))
    client.expect_message("t", "y", retain=True)
    client.publish("t", "", retain=True)
    client.expect_message("t", "")
    client.ping()
    client.disconnect()


def extremes(row):
    low, high = number(row["low"]), number(row["high"])
    return sorted({v for v in (low, high, 0, 1, -1, high - 1, 2**31 - 1) if low <= v <= high})


def values_of(row):
    """Those with which something can be served. (memory_limit 1: see test_memory.)"""
    return [v for v in extremes(row) if not (row["name"] == "memory_limit" and 0 < v < 1000)]


@pytest.mark.parametrize("row", NUMBERS, ids=lambda row: row["name"])
def test_numbers_at_their_limits(start, pki, row):
    """From the start with the first, by a reload with the others, and from the start with each that takes a restart."""
    values = values_of(row)
    broker = start(place(row, values[0]))
    for value in values:
        if row["when"] == "RESTART":
            broker.stop()
            broker.configure(place(row, value))
            broker.start()
        elif value != values[0]:
            broker.configure(place(row, value))
            broker.reload()
            broker.wait_log("Reloaded", values.index(value))
        for port in LISTENER:
            serves(broker, port, row["name"], value)


def together(pick):
    """A configuration with every number as pick(values) says."""
    general = ["allow_anonymous true"]
    listener = []
    for row in NUMBERS:
        if row["name"] not in ("max_qos", "websockets_headers_size"):
            line = f"{row['name']} {pick(values_of(row))}"
            (listener if row["scope"] == "LISTENER" else general).append(line)
    lines = "".join(line + "\n" for line in listener)
    return "\n".join(general) + "\n" + "".join(LISTENER[kind] + lines for kind in LISTENER)


@pytest.mark.parametrize("pick", [min, max, lambda values: min(v for v in values if v >= 0),
                                  lambda values: min([v for v in values if v > 0])],
                         ids=["lowest", "highest", "none", "one"])
def test_all_numbers_at_their_limits(start, pki, pick):
    broker = start(together(pick))
    shortest = {"name": "max_keepalive", "value": 1}
    for port in LISTENER:
        serves(broker, port, **shortest)
    broker.configure(ALL)
    broker.reload()
    broker.wait_log("Reloaded")
    broker.configure(together(pick))
    broker.reload()
    broker.wait_log("Reloaded", 2)
    for port in LISTENER:
        serves(broker, port, **shortest)


@pytest.mark.parametrize("value", ["1s", "1y", "9223372036854775s", "292471208y"])
def test_durations_at_their_limits(start, value):
    broker = start(f"persistent_client_expiration {value}\n")
    broker.connect("kept", clean=False).disconnect()
    serves(broker, "tcp")
    client = broker.client()
    assert client.connect("kept", clean=False)  # it is swept once a minute, so also with 1s


@pytest.mark.parametrize("value", ["%", "%%", "%n", "%c" * 33, "%Y-%m-%dT%H:%M:%S%z", "%E%O%-", "x" * 100, "%s" * 50, "é" * 50])
def test_formats_of_the_time(start, value):
    """Also such as give nothing, or more than there is room for."""
    broker = start(f"log_timestamp_format {value}\n")
    serves(broker, "tcp")
    broker.wait_log("New client connected from")


@pytest.mark.parametrize("name", SWITCHES)
def test_switches(start, pki, name):
    """Both ways, from the start and by a reload; whoever may come is served."""
    rows = {row["name"]: row for row in OPTIONS}
    row = rows[name]
    closed = {("allow_anonymous", "false"), ("listener_allow_anonymous", "false"), ("use_identity_as_username", "true"),
              ("use_subject_as_username", "true")}
    for first, second in (("true", "false"), ("false", "true")):
        text = place(row, first)
        if name == "allow_anonymous":
            text = text.replace("allow_anonymous true\n" + LISTENER["tcp"], LISTENER["tcp"])
        if name == "require_certificate":
            text = f"allow_anonymous true\n{LISTENER['tls']}cafile {{pki}}/ca.crt\nrequire_certificate {first}\n{LISTENER['tcp']}"
        broker = start(text)
        for value in (first, second):
            if value == second:
                broker.configure(text.replace(f"{name} {first}", f"{name} {second}"))
                broker.reload()
                broker.wait_log("Reloaded")
            if name == "retain_available" or (name, value) in closed:
                client = broker.client()
                got = client.connect("c") if name == "retain_available" else client.connect("c", expect=refusal(name))
                assert got is False
            else:
                serves(broker, "tcp", name, value)


def refusal(name):
    return 4 if name.startswith("use_") else 5
