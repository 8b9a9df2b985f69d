"""Clocks that jump: a gateway without a battery starts in 1970 or years behind; an hour comes back in autumn; a laptop
sleeps. Keep alive, timers and expiry follow the time since the start, sleep included; only dates follow the wall clock.
"""

import re
import socket
import ssl
import time

import pytest

from bramble import LISTENER
from rawmqtt import PINGREQ, PINGRESP, Will, packet
from shims import shim, shim_library  # noqa: F401 (fixtures)
from streams import Closed

YEAR = 365 * 86400
JUMPS = {"an hour back": -3600, "a year on": YEAR, "to 1970": None, "before 1970": "before", "behind 2038": 20 * YEAR,
         "to the year 9999": 7970 * YEAR}


def jump(shim, how):  # noqa: F811
    """Sets the wall clock; returns seconds ahead. (The shim counts nanoseconds in 64 bits: 292 years at most.)"""
    now = time.time()
    ahead = {None: -now, "before": -now - YEAR}.get(how, how)
    ahead = max(min(ahead, 250 * YEAR), -250 * YEAR)
    shim.ahead("realtime", ahead)
    return ahead


@pytest.mark.parametrize("name", JUMPS)
def test_wall_clock_jumps(start, pki, shim, name):  # noqa: F811
    """Nobody is disconnected, kept sessions stay, timers go on, new clients come, the log goes on with the new time."""
    broker = start("persistent_client_expiration 1h\nsys_interval 1\nlog_dest stderr\nlog_timestamp_format %Y-%m-%dT%H:%M:%S\n"
                   + LISTENER["tcp"] + LISTENER["tls"] + LISTENER["wss"], env=shim.env)
    broker.connect("kept", clean=False).disconnect()
    clients = {port: broker.connect(f"c-{port}", port, keepalive=1000) for port in ("tcp", "tls", "wss")}
    watcher = broker.connect("watcher", keepalive=0)
    watcher.subscribe("$SYS/broker/uptime")
    watcher.receive()
    ahead = jump(shim, JUMPS[name])
    shim.ahead("monotonic", 61)  # kept sessions are looked at once a minute: now
    watcher.receive()
    watcher.receive()
    for port, client in clients.items():
        client.publish("t", "x", 1)
        client.ping()
        broker.connect(f"new-{port}", port).disconnect()
    year = time.gmtime(time.time() + ahead).tm_year
    broker.wait_log(rf"(?m)^({year - 1}|{year}|{year + 1})-\d\d-\d\dT.*New client connected from .* as new-wss")
    shim.ahead("realtime", 0)
    watcher.receive()
    for client in clients.values():
        client.ping()
    again = broker.client()
    assert again.connect("kept", clean=False)
    assert "exceeded its keep alive" not in broker.log and "Expiring" not in broker.log


def test_start_in_another_time(start, pki, shim):  # noqa: F811
    """Before anything has set the clock: it starts, and says what that means for certificates."""
    shim.ahead("realtime", -time.time())
    broker = start(LISTENER["tcp"] + LISTENER["tls"], env=shim.env)
    broker.wait_log(r"server\.crt: is not valid yet: is this machine's clock right\?")
    client = broker.connect("c", "tls")
    shim.ahead("realtime", 0)
    client.ping()
    broker.reload()
    broker.wait_log("Reloaded")
    assert broker.log.count("is not valid yet") == 1
    shim.ahead("realtime", 40 * YEAR)
    broker.reload()
    broker.wait_log(r"server\.crt: has expired")
    client.ping()


def handshake(broker, cert, key):
    """A client with a certificate, as far as its first answer."""
    client = broker.client("tls", cert=cert, key=key)
    client.connect("c")
    client.disconnect()


@pytest.mark.parametrize("tls", ["tlsv1.2", "tlsv1.3"])
@pytest.mark.parametrize("name, ahead", [("far ahead", 40 * YEAR), ("behind", -10 * YEAR), ("to 1970", None)])
def test_certificates_of_clients(start, pki, shim, name, ahead, tls):  # noqa: F811
    """With a wrong clock nobody can show a valid certificate: refused, and said why; with a right one it is good again."""
    broker = start("listener {tls} 127.0.0.1\ncertfile {pki}/server.crt\nkeyfile {pki}/server.key\ncafile {pki}/ca.crt\n"
                   f"require_certificate true\nuse_identity_as_username true\ntls_version {tls}\n" + LISTENER["tcp"],
                   env=shim.env)
    cert, key = pki.client("meter")
    handshake(broker, cert, key)
    stays = broker.client("tls", cert=cert, key=key)
    stays.connect("stays")
    jump(shim, ahead)
    with pytest.raises((Closed, ConnectionError, ssl.SSLError)):
        handshake(broker, cert, key)
    broker.wait_log(r"(?i)certificate.*(expired|not yet valid|in the future|not valid yet|validity)")
    stays.ping()
    shim.ahead("realtime", 0)
    handshake(broker, cert, key)


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
def test_session_tickets(start, pki, shim, tls):  # noqa: F811
    """Tickets from another time are not taken, or taken; the client is connected in any case."""
    broker = start(LISTENER["tls"] + LISTENER["tcp"], env=shim.env)
    version = ssl.TLSVersion.TLSv1_2 if tls == "1.2" else ssl.TLSVersion.TLSv1_3
    context = ssl.create_default_context(cafile=str(pki.ca))
    context.minimum_version = context.maximum_version = version
    session = None
    for ahead in (0, 0, 10 * YEAR, 0, -10 * YEAR, -10 * YEAR, 0):
        shim.ahead("realtime", ahead)
        sock = context.wrap_socket(socket.create_connection(("127.0.0.1", broker.ports["tls"]), 20), server_hostname="localhost",
                                   session=session)
        sock.sendall(bytes.fromhex("100d00044d5154540402003c000163"))
        assert sock.recv(4) == bytes.fromhex("20020000")
        session = sock.session
        sock.close()


# ---- sleep: CLOCK_BOOTTIME goes on, CLOCK_MONOTONIC does not

def sleep(shim, seconds):  # noqa: F811
    shim.ahead("boottime", seconds)
    shim.ahead("realtime", seconds)


def test_sleep_is_no_silence_of_those_who_wake_too(start, shim):  # noqa: F811
    """After an hour's sleep a client with a keep alive of 60 s is heard first: its PINGREQ is on its way."""
    broker = start("sys_interval 1\n", env=shim.env)
    client = broker.connect("c", keepalive=60)
    sleep(shim, 3600)
    client.send(packet(PINGREQ, 0))
    client.expect(PINGRESP)
    watcher = broker.connect("watcher")
    watcher.subscribe("$SYS/broker/uptime")
    uptimes = [int(watcher.receive().payload.split()[0]) for _ in range(3)]
    assert uptimes[-1] >= 3600  # the time asleep counts
    client.ping()
    assert "exceeded its keep alive" not in broker.log


def test_silence_since_before_the_sleep(start, shim):  # noqa: F811
    """Who does not come back is disconnected once its timer is due, and not an hour later; its will is published."""
    broker = start("sys_interval 0\n", env=shim.env)
    watcher = broker.connect("watcher", keepalive=0)
    watcher.subscribe("will")
    gone = broker.connect("gone", keepalive=2, will=Will("will", "gone"))
    sleep(shim, 3600)
    watcher.expect_message("will", "gone")
    gone.expect_closed()
    broker.wait_log("Client gone .* disconnected: it exceeded its keep alive of 2 seconds")


def test_clocks_that_go_back(start, shim):  # noqa: F811
    """No kernel does that to CLOCK_BOOTTIME; nothing breaks when one does."""
    broker = start("sys_interval 1\npersistent_client_expiration 1s\n" + LISTENER["tcp"], env=shim.env)
    client = broker.connect("c", keepalive=1)
    watcher = broker.connect("watcher", keepalive=0)
    watcher.subscribe("$SYS/broker/uptime")
    for seconds in (3600, -3600, 7200, 0):
        sleep(shim, seconds)
        client.ping()
        watcher.receive()
        broker.connect("other").disconnect()
    broker.client().connect("x", keepalive=5)


def test_expiry_counts_the_time_asleep(start, shim):  # noqa: F811
    """A kept session of somebody who was away for a day, through the machine's sleep; not one of a minute ago."""
    broker = start("persistent_client_expiration 1d\n", env=shim.env)
    broker.connect("kept", clean=False).disconnect()
    sleep(shim, 2 * 86400)
    broker.connect("younger", clean=False).disconnect()
    shim.ahead("monotonic", 61)  # they are looked at once a minute
    broker.wait_log("Expiring client kept")
    again = broker.client()
    assert not again.connect("kept", clean=False)
    again = broker.client()
    assert again.connect("younger", clean=False)


@pytest.mark.parametrize("seconds", [-10**9, 3 * 10**9, 6 * 10**9])
def test_stamps_of_any_time(start, shim, seconds):  # noqa: F811
    """Seconds before 1970, behind 2038 and 2106; as numbers and through strftime."""
    for form in ("", "log_timestamp_format %c %s\n"):
        shim.ahead("realtime", seconds - time.time())
        broker = start(form, env=shim.env)
        broker.connect("c").ping()
        broker.wait_log("New client connected")
        if not form:
            stamps = [int(n) for n in re.findall(r"(?m)^(-?\d+): ", broker.log)]
            assert stamps and all(abs(n - seconds) < 1000 for n in stamps)
        broker.stop()
