"""The frame itself: that no statement is left out, that the proxy alone changes nothing, that a broken run counts only when
it failed because of its breaker, and that the report says what happened."""

import importlib.util
import random
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench import STATEMENTS, Run, judge
from breakers import change, clean, drop, dup, filters, hold_close, made, mid, payload, qos, swap, topic
from proxy import DOWN, UP, Breaker, Frame, Mqtt, Proxy, Web
from rawmqtt import PUBACK, PUBLISH, ack, connect, publish, subscribe
from report import Report, Result
from streams import Closed

# ---- nothing is left out

def marked_tests():
    for path in sorted(Path(__file__).parent.glob("test_[0-9]*.py")):
        spec = importlib.util.spec_from_file_location("again_" + path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for name, function in vars(module).items():
            if name.startswith("test_"):
                yield name, getattr(function, "statements", {})


def test_every_statement_has_a_test_and_a_breaker():
    shown, broken = set(), set()
    for _, statements in marked_tests():
        shown.update(statements)
        broken.update(row for row, breakers in statements.items() if breakers)
    assert shown == set(STATEMENTS), f"no test: {set(STATEMENTS) - shown}; no such statement: {shown - set(STATEMENTS)}"
    assert broken == set(STATEMENTS), f"no breaker: {set(STATEMENTS) - broken}"


def test_every_test_is_named_by_its_statement():
    for name, statements in marked_tests():
        assert statements, f"{name} stands for no statement"
        assert any(re.match(f"test_{re.sub('[.-]', '_', row)}_[a-z]", name) for row in statements), name


def test_the_list_is_whole():
    assert len(STATEMENTS) == 130
    assert all(re.fullmatch(r"\d\.\d+\.\d+-\d+", row) and text for row, text in STATEMENTS.items())


# ---- the proxy

class Below:
    """Instead of a connection: what is sent is kept, what is received comes in pieces of any size."""

    def __init__(self, data=b""):
        self.sent, self.data = b"", data

    def send(self, data):
        self.sent += data

    def recv(self, _n):
        size = random.randint(1, 10)
        out, self.data = self.data[:size], self.data[size:]
        return out

    def patience(self, _seconds):
        pass


STREAMS = {
    "packets": connect("x") + subscribe(1, ("a", 1)) + publish("t", "x" * 300, 2, mid=5) + ack(PUBACK, 5) + b"\xc0\0",
    "a packet cut short": publish("t", "x" * 300)[:-1],
    "a length of five bytes": publish("t", "x") + b"\x30\xff\xff\xff\xff\1 and more",
    "noise": bytes(range(256)),
    "nothing": b"",
}


@pytest.mark.parametrize("data", STREAMS.values(), ids=STREAMS)
def test_the_proxy_alone_changes_nothing(data):
    for _ in range(20):
        below = Below(data)
        proxy = Proxy(below, Breaker())
        proxy.send(data)
        got = b""
        while piece := proxy.recv(7):
            got += piece
        assert below.sent == data and got == data


def test_what_a_breaker_does_not_touch_goes_on_as_it_is():
    """Behind it the client's packets go on when they are whole, those of the broker at the end in any case."""
    whole, part = STREAMS["packets"], STREAMS["a packet cut short"]
    below = Below(whole + part)
    proxy = Proxy(below, Breaker(*drop(14), *drop(14, side=UP)))
    for byte in whole + part:
        proxy.send(bytes([byte]))
    assert below.sent == whole
    got = b""
    while piece := proxy.recv(100):
        got += piece
    assert got == whole + part and not proxy.breaker.broken


@pytest.mark.parametrize("codec,data", [
    (Mqtt, publish("t", "x" * 200, 1, mid=3)), (Mqtt, b"\xd0\0"), (Mqtt, publish("t", "x" * 20000)),
    (Web, b"\x82\x02hi"), (Web, b"\x02\x7e\x01\x00" + b"x" * 256), (Web, b"\x88\x02\x03\xe8")],
    ids="PUBLISH PINGRESP long frame fragment close".split())
def test_what_is_cut_is_put_together_again(codec, data):
    made_of = codec()
    if codec is Web:
        made_of.headed.add(DOWN)
    for more in (b"", b"more"):
        taken, item = made_of.take(DOWN, data + more)
        assert taken == data and made_of.put(DOWN, item) == data
    assert all(made_of.take(DOWN, data[:n]) is None for n in range(len(data)))


def test_frames_of_a_client_are_unmasked():
    web = Web()
    assert web.take(UP, b"GET / HTTP/1.1\r\n\r\nrest") == (b"GET / HTTP/1.1\r\n\r\n", Frame("the head", b"GET / HTTP/1.1\r\n\r\n"))
    mask, text = b"\1\2\3\4", b"hello"
    data = b"\x82\x85" + mask + bytes(c ^ mask[i % 4] for i, c in enumerate(text))
    assert web.take(UP, data) == (data, Frame(2, text))
    assert web.put(UP, Frame(2, text)) == b"\x82\x85\0\0\0\0hello"


# ---- breakers

def down(rules, *packets):
    """What comes of these packets from the broker, as text."""
    breaker = Breaker(*rules)
    proxy = Proxy(Below(), breaker)
    return [str(p) for data in packets for p in breaker.pass_on(proxy, DOWN, made(data))], breaker.broken


def test_breakers():
    one, two = publish("t", "1", 1, mid=1), publish("t", "2", 1, mid=2)
    plain = [str(made(one)), str(made(two))]
    assert down(drop(PUBACK), one, two) == (plain, 0)
    assert down(drop(PUBLISH, skip=1), one, two) == (plain[:1], 1)
    assert down(drop(PUBLISH, times=1), one, two) == (plain[1:], 1)
    assert down(drop(PUBLISH, on=7), one, two) == (plain, 0)
    assert down(drop(PUBLISH, when=lambda p: p.payload == b"2"), one, two) == (plain[:1], 1)
    assert down(swap(PUBLISH), one, two, one) == ([plain[1], plain[0], plain[0]], 2)
    changed, _ = down(change(PUBLISH, dup(), mid(9), topic(lambda t: t + b"t"), payload("x")), one)
    assert changed == [str(made(publish("tt", "x", 1, mid=9, dup=True)))]
    assert down(change(PUBLISH, qos(0)), one)[0] == [str(made(publish("t", "1")))]
    assert clean(False)(made(connect("x"))) == made(connect("x", clean=False))
    assert filters(lambda all: all[::-1])(made(subscribe(1, ("a", 1), ("b", 2)))) == made(subscribe(1, ("b", 2), ("a", 1)))


def test_a_breaker_that_fails_is_no_failure_of_the_test():
    def broken(_packet):
        raise AssertionError("in the breaker")

    with pytest.raises(RuntimeError):
        down(change(PUBLISH, broken), publish("t"))


def test_the_end_is_held_back():
    proxy = Proxy(Below(b"\xd0\0"), Breaker(*hold_close()))
    assert b"".join(proxy.recv(1) for _ in range(2)) == b"\xd0\0"
    for _ in range(2):
        with pytest.raises(TimeoutError):
            proxy.recv(1)
    assert proxy.breaker.broken == 1


# ---- judgement and report

@pytest.mark.parametrize("failure,broken,right", [
    (AssertionError("x"), 1, True), (Closed(), 1, True), (TimeoutError(), 2, True), (ConnectionResetError(), 1, True),
    (AssertionError("x"), 0, False), (TimeoutError(), 0, False), (None, 0, False), (None, 1, False),
    (TypeError("x"), 1, False), (KeyError("x"), 1, False), (RuntimeError("x"), 1, False), (OSError("x"), 1, False)])
def test_when_a_broken_run_counts(failure, broken, right):
    assert (judge(failure, SimpleNamespace(broken=broken)) is None) == right


def reported(*outcomes, foreign=None):
    """The report on made-up results: (row, way, outcome, words of a breaker)."""
    report = Report(None, foreign)
    for number, (row, way, outcome, words) in enumerate(outcomes):
        item = SimpleNamespace(originalname="test_x", function=SimpleNamespace(statements={row: {}}),
                               callspec=SimpleNamespace(params={"bench": Run(way, row if words else None, words)}))
        result = report.results[str(number)] = Result(item)
        for when in ("setup", "call", "teardown"):
            result.take(SimpleNamespace(failed=outcome == "failed" and when == "call", skipped=outcome == "skipped",
                                        when=when, longrepr="because"))
    return "\n".join(report.lines())


def test_the_report():
    text = reported(("3.1.4-2", "tcp", "passed", None), ("3.1.4-2", "tls", "passed", None),
                    ("3.1.4-2", "tcp", "passed", "it hangs"), ("3.2.0-1", "tcp", "failed", None),
                    ("3.2.2-1", "tcp", "passed", None), ("3.2.2-1", "tcp", "failed", "it says 1"))
    assert "of 130 statements 1 shown, 2 FAILED, 127 not run" in text
    assert re.search(r"^3\.1\.4-2 .*\n +test_x +tcp ok   tls ok\n +noticed: it hangs", text, re.M)
    assert re.search(r"^3\.2\.0-1 .*\n +test_x +tcp FAILED\n +tcp: because", text, re.M)
    assert re.search(r"^3\.2\.2-1 .*\n +test_x +tcp ok\n +NOT NOTICED: it says 1", text, re.M)
    assert "FAILED: 3.2.0-1 3.2.2-1" in text


def test_the_report_on_another_broker():
    text = reported(("3.1.4-2", "broker", "passed", None), ("3.2.0-1", "broker", "failed", None),
                    ("3.1.3-9", "broker", "skipped", None), foreign=("host", 1883))
    assert "host:1883: of 130 statements 1 shown, 1 FAILED, 1 not applicable, 127 not run" in text
