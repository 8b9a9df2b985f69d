"""The runs of each test of the standard: over tcp, tls and ws, and once with each of its breakers, where it has to fail.
With --broker=HOST:PORT one run over tcp against that broker. The report is report.py's."""

import pytest

pytest.register_assert_rewrite("bench")

import streams
from bench import Bench, Run, judge, sweep
from bramble import LISTENER, Broker
from report import Report


def pytest_addoption(parser):
    parser.addoption("--broker", default="", metavar="HOST:PORT", help="test this broker instead of bramble")
    parser.addoption("--report", default="", metavar="FILE", help="where to write which statement was shown by what")


def foreign(config):
    """(host, port), or None."""
    host, _, port = config.getoption("--broker").rpartition(":")
    if not config.getoption("--broker"):
        return None
    if not port.isdigit():
        raise pytest.UsageError("--broker=HOST:PORT")
    return host.strip("[]") or "localhost", int(port)


def pytest_configure(config):
    if foreign(config):
        try:
            streams.tcp(foreign(config)[1], foreign(config)[0]).close()
        except OSError as error:
            raise pytest.UsageError(f"there is no broker at {config.getoption('--broker')}: {error}") from error
    config.pluginmanager.register(Report(config, foreign(config)), "conformance-report")


def pytest_generate_tests(metafunc):
    if "bench" not in metafunc.fixturenames:
        return
    statements, ways = metafunc.function.statements, metafunc.function.ways
    if foreign(metafunc.config):
        runs = [Run("broker")]
    else:
        runs = [Run(way) for way in ways]
        runs += [Run(ways[0], row, words, rules) for row, breakers in statements.items() for words, rules in breakers.items()]
    metafunc.parametrize("bench", runs, ids=str, indirect=True)


@pytest.fixture(scope="session")
def daemons(pki, tmp_path_factory, request):
    """The one daemon of the run; another when it has not survived a test."""
    class Daemons:
        current = None

        def running(self):
            if self.current is None or self.current.process.poll() is not None:
                self.current = Broker(tmp_path_factory.mktemp("broker"),
                                      LISTENER["tcp"] + LISTENER["tls"] + LISTENER["ws"], pki)
                self.current.start()
            return self.current

    daemons = Daemons()
    yield daemons
    if daemons.current:
        try:
            daemons.current.stop()
        finally:
            daemons.current.kill()


@pytest.fixture
def bench(request):
    run = request.param
    other = foreign(request.config)
    if other:
        if "tcp" not in request.function.ways:
            pytest.skip("not applicable: it is not about tcp")
        made = Bench(run.way, None, foreign=other)
        yield made
        made.close()
        return
    daemon = request.getfixturevalue("daemons").running()
    before = len(daemon.log)
    made = Bench(run.way, daemon, run.rules, start=request.getfixturevalue("start"))
    yield made
    made.close()
    print(f"---- log\n{daemon.log[before:]}")  # pytest shows it when the test has failed
    assert daemon.process.poll() is None, f"the daemon ended with {daemon.process.poll()}"


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    made = pyfuncitem.funcargs.get("bench")
    if not made or not made.breaker:
        return None
    failure = None
    try:
        pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames})
    except Exception as error:
        failure = error
    wrong = judge(failure, made.breaker)
    if wrong:
        raise AssertionError(wrong) from failure
    pyfuncitem.callspec.params["bench"].noticed = f"{type(failure).__name__}: {failure}".splitlines()[0]
    return True


@pytest.fixture(scope="session", autouse=True)
def tidy(request):
    yield
    if foreign(request.config):
        sweep(foreign(request.config))
