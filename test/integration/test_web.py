"""WebSocket and HTTP on one port: upgrades, frames of every shape, the files of http_dir."""

import http.client
import os
import ssl
import struct

import pytest

import streams
from bramble import LISTENER, Client
from rawmqtt import CONNACK, PINGREQ, PUBLISH, SUBACK, Will, connect, packet, publish, subscribe
from streams import HttpError


@pytest.fixture(params=["ws", "wss"])
def web(start, request):
    """A running daemon with a WebSocket listener and a page; web.port has the name of the port."""
    broker = start("allow_anonymous true\n" + LISTENER[request.param] + "http_dir {dir}/page\n", files=PAGE)
    broker.port = request.param
    return broker


PAGE = {"page/index.html": "<!doctype html><title>hello</title>", "page/app.js": "x" * 100_000,
        "page/sub/index.html": "below", "page/style.css": "body{}", "page/style.css.gz": "not really compressed",
        "page/.hidden": "secret", "outside.txt": "secret"}


def ws(broker, **options):
    """The WebSocket below a Client, to send frames of all kinds."""
    return broker.stream(broker.port, **options)


# ---- upgrades

def test_subprotocol(web):
    assert ws(web).protocol == "mqtt"
    assert ws(web, protocol="mqttv3.1").protocol == "mqttv3.1"
    assert ws(web, protocol="chat, mqtt").protocol == "mqtt"
    for protocol in ("chat", "MQTT", None):
        with pytest.raises(HttpError) as error:
            ws(web, protocol=protocol)
        assert error.value.status == 400
    web.wait_log("WebSocket connection from 127.0.0.1:.* refused", 3)


@pytest.mark.parametrize("path", ["/mqtt", "/", "/ws", "/index.html?x=y"])
def test_any_path(web, path):
    client = Client(ws(web, path=path))
    client.connect("c")
    client.ping()


def test_origin(start):
    broker = start("allow_anonymous true\n" + LISTENER["ws"] +
                   "websockets_origin https://good.example\nwebsockets_origin http://localhost:8080\n")
    for origin in ("https://good.example", "http://localhost:8080"):
        Client(broker.stream("ws", origin=origin)).connect("c")
    for origin in ("https://evil.example", "https://good.example.evil.example", "http://good.example", "null", None):
        with pytest.raises(HttpError) as error:
            broker.stream("ws", origin=origin)
        assert error.value.status == 403


def test_large_header(web):
    with pytest.raises((HttpError, streams.Closed, ConnectionError)) as error:
        ws(web, path="/" + "x" * 20_000)
    if isinstance(error.value, HttpError):
        assert error.value.status == 431
    Client(ws(web)).connect("c")


def test_websockets_headers_size(start):
    broker = start("websockets_headers_size 1000\n" + LISTENER["ws"])
    Client(broker.stream("ws", path="/" + "x" * 300)).connect("c")
    with pytest.raises((HttpError, streams.Closed, ConnectionError)):
        broker.stream("ws", path="/" + "x" * 1500)


# ---- frames

def test_one_packet_in_many_frames(web):
    """mqtt.js splits packets anywhere."""
    stream = ws(web)
    client = Client(stream)
    for byte in connect("c"):
        stream.send(bytes([byte]))
    client.connack()
    client.subscribe("t")
    data = publish("t", "x" * 3000)
    for at in range(0, len(data), 100):
        stream.send(data[at:at + 100])
    client.expect_message("t", "x" * 3000)


def test_many_packets_in_one_frame(web):
    client = Client(ws(web))
    client.send(connect("c"), subscribe(1, ("t", 0)), *(publish("t", str(i)) for i in range(1000)))
    client.expect(CONNACK)
    client.expect(SUBACK, 1)
    assert [int(client.expect(PUBLISH).payload) for _ in range(1000)] == list(range(1000))


def test_each_packet_has_a_frame_of_its_own(web):
    """Some clients look for one packet in a frame (paho C finds the second one only when more comes)."""
    stream = ws(web)
    stream.send(connect("c") + subscribe(1, ("t", 0)) + b"".join(publish("t", str(i)) for i in range(100)))
    frames = [stream.recv(65536) for _ in range(102)]
    assert [frame[0] >> 4 for frame in frames] == [CONNACK, SUBACK] + [PUBLISH] * 100
    assert all(len(frame) == 2 + frame[1] for frame in frames)


def test_fragments_with_control_frames_between(web):
    stream = ws(web)
    client = Client(stream)
    data = connect("c") + publish("t", "x" * 100)
    stream.below.send(stream.frame(2, data[:5], final=False))
    stream.below.send(stream.frame(9, b"are you there"))
    stream.below.send(stream.frame(0, b"", final=False))
    stream.below.send(stream.frame(0, data[5:60], final=False))
    stream.below.send(stream.frame(10, b"unasked pong"))
    stream.below.send(stream.frame(0, data[60:], final=True))
    client.connack()
    client.ping()
    assert stream.pongs == [b"are you there"]


def test_frames_byte_by_byte(web):
    stream = ws(web)
    client = Client(stream)
    for byte in stream.frame(2, connect("c")) + stream.frame(2, packet(PINGREQ, 0)):
        stream.below.send(bytes([byte]))
    client.connack()


@pytest.mark.parametrize("size", [125, 126, 65535, 65536, 300_000])
def test_frame_lengths(web, size):
    client = Client(ws(web))
    client.connect("c")
    client.subscribe("t")
    data = publish("t", "x" * size)
    client.send(publish("t", "x" * (2 * size - len(data))))  # the whole packet is `size` bytes
    assert len(client.expect(PUBLISH).payload) == 2 * size - len(data)


WRONG = {
    "text frame": lambda s: s.frame(1, b"hello"),
    "not masked": lambda s: s.frame(2, b"x", masked=False),
    "reserved opcode": lambda s: s.frame(3, b"x"),
    "reserved bit": lambda s: bytes([s.frame(2, b"x")[0] | 0x40]) + s.frame(2, b"x")[1:],
    "continuation of nothing": lambda s: s.frame(0, b"x"),
    "long ping": lambda s: s.frame(9, b"x" * 126),
    "ping in fragments": lambda s: s.frame(9, b"x", final=False),
    "wrong MQTT": lambda s: s.frame(2, b"\xff" * 20),
    "huge length": lambda s: b"\x82\xff" + struct.pack(">Q", 1 << 63),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_frames_close(web, what):
    other = Client(ws(web))
    other.connect("other")
    stream = ws(web)
    stream.below.send(WRONG[what](stream))
    Client(stream).expect_closed()
    other.ping()


def test_close_frame(web):
    """It is answered; without DISCONNECT the will is published."""
    watcher = Client(ws(web))
    watcher.connect("watcher")
    watcher.subscribe("will")
    stream = ws(web)
    Client(stream).connect("c", will=Will("will", b"closed"))
    stream.below.send(stream.frame(8, struct.pack(">H", 1000)))
    assert stream.recv(1) == b"" and stream.closed == 1000
    watcher.expect_message("will", "closed")


def test_end_after_disconnect(web):
    """The WebSocket is closed in order, too."""
    stream = ws(web)
    client = Client(stream)
    client.connect("c")
    client.disconnect()
    assert stream.closed is not None


def test_slow_websocket(web):
    """Backpressure reaches through the frames: nothing is lost of what is not dropped by a limit."""
    writer = Client(ws(web))
    writer.connect("writer")
    slow = Client(ws(web, receive_buffer=4096))
    slow.connect("slow")
    slow.subscribe(("t", 1))
    for i in range(200):
        writer.publish("t", f"{i:04}" + "x" * 20_000, 1)
    for i in range(200):
        got = slow.receive()
        assert int(got.payload[:4]) == i and len(got.payload) == 20_004


# ---- pages

@pytest.fixture
def get(web):
    connections = []

    def request(path, method="GET", connection=None, **headers):
        if connection is None:
            context = ssl.create_default_context(cafile=str(web.pki.ca)) if web.port == "wss" else None
            kind = http.client.HTTPSConnection if context else http.client.HTTPConnection
            connection = kind("localhost", web.ports[web.port], timeout=streams.TIMEOUT, **({"context": context} if context else {}))
            connections.append(connection)
        connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        answer = connection.getresponse()
        answer.text = answer.read()
        answer.connection = connection
        return answer

    yield request
    for connection in connections:
        connection.close()


def test_page(get):
    for path, kind in (("/", "text/html"), ("/index.html", "text/html"), ("/app.js", "text/javascript"), ("/sub/", "text/html"),
                       ("/style.css", "text/css"), ("/index.html?query=1", "text/html")):
        answer = get(path)
        assert answer.status == 200, path
        name = path.split("?")[0].lstrip("/")
        assert answer.text.decode() == PAGE["page/" + (name + "index.html" if name.endswith("/") or not name else name)]
        assert answer.headers["Content-Type"].startswith(kind)
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", ["/none", "/.hidden", "/../outside.txt", "/%2e%2e/outside.txt", "/..%2foutside.txt",
                                  "/sub/../../outside.txt", "//etc/passwd", "/index.html%00", "/style.css.gz/x"])
def test_nothing_else_is_served(get, path):
    try:
        answer = get(path)
    except http.client.RemoteDisconnected:
        return  # that is an answer, too
    assert answer.status in (400, 403, 404) and b"secret" not in answer.text and b"root:" not in answer.text


def test_methods(get):
    head = get("/app.js", "HEAD")
    assert head.status == 200 and head.headers["Content-Length"] == "100000" and head.text == b""
    for method in ("POST", "PUT", "DELETE"):
        assert get("/", method).status == 405


def test_cache_and_compression(get):
    first = get("/style.css")
    again = get("/style.css", If_None_Match=first.headers["ETag"])
    assert again.status == 304 and again.text == b""
    packed = get("/style.css", Accept_Encoding="gzip, br")
    assert packed.headers["Content-Encoding"] == "gzip" and packed.text == b"not really compressed"
    assert packed.headers["ETag"] != first.headers["ETag"]


def test_connection_is_kept(get):
    answer = get("/")
    for _ in range(20):
        answer = get("/app.js", connection=answer.connection)
        assert answer.status == 200 and len(answer.text) == 100_000


def test_changed_page_after_reload(web, get):
    web.write("page/index.html", "changed")
    assert b"hello" in get("/").text
    web.reload()
    assert get("/").text == b"changed"


def test_no_page(start):
    """Without http_dir there is none, and WebSocket works."""
    broker = start("allow_anonymous true\n" + LISTENER["ws"])
    connection = http.client.HTTPConnection("127.0.0.1", broker.ports["ws"], timeout=streams.TIMEOUT)
    connection.request("GET", "/")
    assert connection.getresponse().status == 404
    connection.close()
    broker.connect("c", "ws")


def test_dashboard(start):
    """The real page: every file that its parts name is there."""
    page = os.environ["BRAMBLE_DASHBOARD"]
    broker = start("allow_anonymous true\n" + LISTENER["ws"] + f"http_dir {page}\n")
    for name in os.listdir(page):
        if name.startswith(".") or name.endswith(".gz"):
            continue
        connection = http.client.HTTPConnection("127.0.0.1", broker.ports["ws"], timeout=streams.TIMEOUT)
        connection.request("GET", "/" + name)
        answer = connection.getresponse()
        with open(os.path.join(page, name), "rb") as file:
            assert answer.status == 200 and answer.read() == file.read()
        connection.close()
