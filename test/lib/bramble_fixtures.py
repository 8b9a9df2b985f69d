"""bramble_fixtures: what tests get from pytest.

start    start("configuration", ...) runs a daemon (bramble.Broker) and gives it; at the end of the test it is stopped
         by SIGTERM and must exit with 0 and without a sanitizer's complaint
pki      the certificates of the whole run (bramble.Pki)
anywhere a running daemon and a kind of connection, for tests that are run over tcp, tls, ws and wss:
         anywhere.connect("id") where a test would say broker.connect("id", "wss")
"""

import os
import signal

import pytest

from bramble import LISTENER, TRANSPORTS, Broker, Pki


LONGEST = int(os.environ.get("LONGEST", "300"))  # seconds for one test; what hangs is a failure, not an endless run


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    def late(_number, _frame):
        raise TimeoutError(f"{item.name} took longer than {LONGEST} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(LONGEST)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def start(tmp_path, request):
    brokers = []

    def factory(config="", wait=True, **options):
        uses_pki = config is not None and "{pki}" in config
        broker = Broker(tmp_path / f"broker{len(brokers)}", config, request.getfixturevalue("pki") if uses_pki else None,
                        **options)
        brokers.append(broker)
        return broker.start(wait)

    yield factory
    failed = None
    for broker in brokers:
        try:
            broker.stop()
        except AssertionError as error:
            failed = failed or error
        finally:
            broker.kill()
            print(f"---- log of {broker.dir.name}\n{broker.log}")  # pytest shows it when the test has failed
    if failed:
        raise failed


class Anywhere:
    def __init__(self, start, transport):
        self._start = start
        self.transport = transport
        self._broker = None

    def start(self, config="", suffix="", **options):
        """Only for a configuration other than the usual one. suffix: more options of the listener."""
        self._broker = self._start(config.rstrip("\n") + "\n" + LISTENER[self.transport] + suffix, **options)
        return self._broker

    @property
    def broker(self):
        return self._broker or self.start()

    def client(self, **options):
        return self.broker.client(self.transport, **options)

    def connect(self, client_id="", **fields):
        return self.broker.connect(client_id, self.transport, **fields)


@pytest.fixture(params=TRANSPORTS)
def anywhere(start, request):
    return Anywhere(start, request.param)
