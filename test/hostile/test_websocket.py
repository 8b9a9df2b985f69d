"""WebSocket from a client that keeps to no rule: upgrades that are none, frames that no client may send, frames whose length
has nothing to do with that of the MQTT packets in them, and connections that end anywhere. Each ends its own connection,
with a close frame and a line in the log that say why; what came before it counts."""

import itertools
import struct
import threading

import pytest

import streams
from attack import MB, fewer, many_descriptors
from bramble import SANITIZED, Client
from rawmqtt import *
from streams import Closed
from web import BOTH, MQTT, UPGRADE, RawHttp, get, watched

MASK = b"\x5a\x00\xc3\x11"
NOTHING = b"\0\0\0\0"  # a mask that changes nothing


@pytest.fixture
def broker(attacked):
    return attacked(BOTH + "log_type all\n")


@pytest.fixture(params=["ws", "wss"])
def port(request):
    return request.param


def frame(opcode, data=b"", final=True, size=None, mask=MASK, bits=0):
    """size: what the frame says of its length, and in how many bytes it says so: 7, 16 or 64 bits."""
    n, width = size or (len(data), 7 if len(data) < 126 else 16 if len(data) < 65536 else 64)
    head = bytes([(0x80 if final else 0) | bits | opcode])
    bit = 0x80 if mask is not None else 0
    if width == 7:
        head += bytes([bit | n])
    else:
        head += bytes([bit | (126 if width == 16 else 127)]) + n.to_bytes(width // 8, "big")
    if mask is None:
        return head + data
    return head + mask + bytes(b ^ mask[i & 3] for i, b in enumerate(data))


CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

NO_MASK = r"WebSocket frame without a mask received \(RFC 6455 5.1\)"
NO_TEXT = r"text frame received \[MQTT-6.0.0-1\]"
RESERVED = "WebSocket frame with reserved bits received"
OPCODE = "WebSocket frame with a reserved opcode received"
FRAGMENTS = "WebSocket control frame in fragments received"
LONG = "WebSocket control frame of more than 125 bytes received"
HALF = "WebSocket close frame with half a status code received"
NOTHING_BEGUN = "WebSocket frame received that continues nothing"
WITHIN = "WebSocket message received that begins within another"
HUGE = "WebSocket frame of 4 GiB or more announced"

PACKET = packet(PINGREQ, 0)
WRONG = [
    *((frame(opcode, data, mask=None, size=size), 1002, NO_MASK)
      for opcode, data, size in ((BINARY, PACKET, None), (BINARY, b"", None), (BINARY, b"x" * 126, None), (BINARY, b"x" * 70_000, None),
                                 (BINARY, b"", (0, 16)), (BINARY, b"", (0, 64)), (BINARY, PACKET, (2, 64)), (PING, b"", None),
                                 (PONG, b"x", None), (CLOSE, b"\x03\xe8", None))),
    (frame(BINARY, PACKET[:1], final=False) + frame(CONTINUATION, PACKET[1:], mask=None), 1002, NO_MASK),
    (frame(TEXT, b"hello"), 1003, NO_TEXT),
    (frame(TEXT), 1003, NO_TEXT),
    (frame(TEXT, PACKET[:1], final=False) + frame(CONTINUATION, PACKET[1:]), 1003, NO_TEXT),
    (frame(TEXT, b"\xff\xfe"), 1003, NO_TEXT),
    *((frame(opcode, PACKET, bits=bits), 1002, RESERVED) for opcode in (BINARY, PING, CLOSE) for bits in (0x40, 0x20, 0x10, 0x70)),
    (frame(BINARY, PACKET[:1], final=False) + frame(CONTINUATION, PACKET[1:], bits=0x40), 1002, RESERVED),
    *((frame(opcode, PACKET), 1002, OPCODE) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
    *((frame(opcode, b"", final=False), 1002, FRAGMENTS) for opcode in (CLOSE, PING, PONG)),
    *((frame(opcode, b"x" * n, size=(n, width)), 1002, LONG)
      for opcode in (CLOSE, PING, PONG) for n, width in ((126, 16), (0, 16), (5, 64), (70_000, 64))),
    (frame(CLOSE, b"\x03"), 1002, HALF),
    (frame(CONTINUATION, PACKET), 1002, NOTHING_BEGUN),
    (frame(BINARY, b"", final=False) + frame(CONTINUATION) + frame(CONTINUATION, PACKET), 1002, NOTHING_BEGUN),
    (frame(BINARY, b"", final=False) + frame(BINARY, PACKET), 1002, WITHIN),
    (frame(BINARY, b"", final=False) + frame(PING) + frame(BINARY, PACKET), 1002, WITHIN),
    *((frame(BINARY, PACKET, size=(n, 64)), 1009, HUGE) for n in (1 << 32, (1 << 32) + 2, 1 << 40, 1 << 62, 1 << 63, (1 << 64) - 1)),
]


def send(stream, *data):
    """The daemon may have closed already."""
    try:
        stream.below.send(b"".join(data))
    except (ConnectionError, streams.ssl.SSLError):
        pass


def closing_code(stream):
    """Of the close frame, behind anything else; None without one."""
    while stream.recv(65536):
        pass
    return stream.closed


def test_wrong_frames(broker, port):
    """In one piece with a PUBLISH before it, which is delivered; the will follows, as for any connection that fails."""
    watcher = broker.connect("watcher")
    watcher.subscribe(("t", 0), ("will", 0))
    with watched(broker, peak=4 * MB):
        for i, (data, code, reason) in enumerate(WRONG):
            stream = broker.stream(port)
            client = Client(stream)
            client.connect(f"c{i}", will=Will("will", str(i)))
            send(stream, frame(BINARY, publish("t", str(i))), data, frame(BINARY, publish("t", "behind")), b"\xff" * 100)
            assert closing_code(stream) == code, data[:20]
            broker.wait_log(rf"Client c{i} \[127\.0\.0\.1:\d+\] disconnected: {reason}\.")
            watcher.expect_message("t", str(i))
            watcher.expect_message("will", str(i))
            stream.close()
    watcher.expect_nothing()


def test_wrong_frames_before_connect(broker, port):
    with watched(broker, peak=4 * MB):
        for data, code, reason in WRONG:
            stream = broker.stream(port)
            address = below_address(stream)
            send(stream, data)
            if data.startswith(frame(BINARY, PACKET[:1], final=False)):  # a good fragment of what may not be the first packet
                closing_code(stream)
                reason = f"{reason}|protocol error in PINGREQ"
            else:
                assert closing_code(stream) == code, data[:20]
            broker.wait_log(f"{address} disconnected: ({reason})")
            stream.close()


def below_address(stream):
    return r"\[127\.0\.0\.1:%d\]" % stream.below.sock.getsockname()[1]


def test_wrong_frames_split_anywhere(broker, port):
    """At each byte of the header, with the rest sent as soon as an answer shows that the first part was read."""
    with watched(broker, peak=4 * MB):
        for data, code, _ in WRONG[:: 5 if SANITIZED or port == "wss" else 1]:
            for at in range(1, min(len(data), 14)):
                stream = broker.stream(port)
                client = Client(stream)
                client.connect("c")
                send(stream, frame(BINARY, PACKET), data[:at])
                try:
                    client.expect(PINGRESP)
                except Closed:  # wrong already
                    assert stream.closed == code, (data[:20], at)
                else:
                    send(stream, data[at:], b"x" * 20)
                    assert closing_code(stream) == code, (data[:20], at)
                stream.close()


def test_wrong_frame_behind_the_request(broker, port):
    """Sent with the upgrade request, before its answer."""
    with watched(broker, peak=4 * MB):
        for data, code, reason in WRONG:
            web = RawHttp(broker, port)
            web.send(get(b"/mqtt", UPGRADE, MQTT), frame(BINARY, connect("early")), data)
            assert web.status() == 101
            address = web.address
            while web._more():
                pass
            assert web.buffer.endswith(struct.pack(">BBH", 0x88, 2, code)), (data[:20], web.buffer)
            broker.wait_log(f"Client early {address} disconnected: {reason}|{address} disconnected: {reason}")
            web.close()


# ---- lengths of frames against lengths of packets

def test_frames_and_packets_have_nothing_to_do_with_each_other(broker, port):
    """A stream of packets cut into frames anywhere, with control frames and empty fragments between: only the bytes count
    [MQTT-6.0.0-2]."""
    data = connect("c") + subscribe(1, ("t", 0)) + publish("t", "a" * 200) + publish("t", "b" * 20_000)
    with watched(broker, peak=4 * MB):
        for size in (1, 2, 3, 126, 127, 4095, 4096, 4097, 65_536):
            if SANITIZED and size < 3:
                continue
            stream = broker.stream(port)
            client = Client(stream)
            out = []
            for number, at in enumerate(range(0, len(data), size)):
                last = number % 3 == 2 or at + size >= len(data)
                out.append(frame(CONTINUATION if number % 3 else BINARY, data[at:at + size], final=last))
                if number % 7 == 0:
                    out += [frame(PING, b"ping"), frame(PONG)]
            send(stream, *out)
            client.connack()
            client.expect(SUBACK, 1)
            client.expect_message("t", "a" * 200)
            client.expect_message("t", "b" * 20_000)
            client.ping()
            assert stream.pongs and set(stream.pongs) == {b"ping"}
            stream.close()


def test_lengths_in_more_bytes_than_needed(broker, port):
    """The standard tells clients not to; the length is what it says."""
    for width in (16, 64):
        client = Client(broker.stream(port))
        data = connect("c")
        send(client.stream, frame(BINARY, data, size=(len(data), width)), frame(BINARY, b"", size=(0, width)))
        client.connack()
        client.ping()


def test_frame_longer_than_what_comes(broker, port):
    """A frame of 4 GiB is announced: packets in it are served as they come; nothing is kept for the rest."""
    with watched(broker, peak=4 * MB):
        clients = []
        for i, size in enumerate([(1 << 32) - 5, 1 << 31, (1 << 31) - 1, 256 * MB, 65_536]):
            client = Client(broker.stream(port))
            data = connect(f"c{i}") + PACKET + publish("t", "x" * 1000)
            send(client.stream, frame(BINARY, data, size=(size, 64), mask=NOTHING))
            client.connack()
            client.expect(PINGRESP)
            for _ in range(100):
                send(client.stream, PACKET)
                client.expect(PINGRESP)
            clients.append(client)
        for client in clients:
            client.close()
        broker.wait_log("Client c[0-4] .* disconnected: it closed its connection", len(clients))


LIES = [
    # the frame ends, the packet does not: what follows is taken as its rest, whatever frame it is in
    ("the packet is longer than its frame", publish("t", "x" * 100)[:20], [publish("t", "x" * 100)[20:]], True),
    ("the length of the packet is cut", publish("t", "x" * 1000)[:2], [publish("t", "x" * 1000)[2:3], publish("t", "x" * 1000)[3:]], True),
    ("the packet says 256 MB", bytes([0x30]) + length(268_435_455) + string("t"), [b"x" * 1000] * 20, None),
    ("the packet says 256 MB and its frame 2 bytes", bytes([0x30]), [length(268_435_455)[:2], length(268_435_455)[2:], b"\0\1tx"], None),
    ("five bytes of length", bytes([0x30, 0xff, 0xff]), [bytes([0xff, 0xff]), b"\1"], False),
    ("the topic is longer than packet and frame", packet(PUBLISH, 0, b"\xff\xff" + b"t"), [], False),
    ("the topic is as long as the frame, not the packet", packet(PUBLISH, 0, struct.pack(">H", 9) + b"ttt"), [b"ttttt"], False),
]


def test_lengths_that_lie(broker, port):
    """MQTT's rules decide, and no byte outside of a frame's payload is ever read as MQTT."""
    watcher = broker.connect("watcher")
    watcher.subscribe("t")
    with watched(broker, peak=4 * MB):
        for number, (what, first, others, good) in enumerate(LIES):
            client = Client(broker.stream(port))
            client.connect(f"c{number}")
            send(client.stream, frame(BINARY, first), *(frame(BINARY, other) for other in others))
            if good:
                client.ping()
                assert set(watcher.receive().payload) == {ord("x")}, what
            elif good is False:
                client.expect_closed()
                broker.wait_log(rf"Client c{number} \[.*\] disconnected: protocol error in PUBLISH: ")
            client.close()
    watcher.expect_nothing()


def test_large_before_connect(broker, port):
    """A frame may be as large as it likes; a packet before CONNECT was accepted may not."""
    for kind in (CONNECT, PUBLISH):
        client = Client(broker.stream(port))
        data = bytes([kind << 4]) + length(268_435_455)
        with watched(broker, peak=4 * MB):
            send(client.stream, frame(BINARY, data, size=(268_435_460, 64), mask=NOTHING), b"\0\4MQTT" + b"x" * 200_000)
            client.expect_closed()
        client.close()
    broker.wait_log("protocol error in CONNECT: it is larger than allowed here")
    broker.wait_log("protocol error in PUBLISH: the first packet must be CONNECT")


# ---- frames that say nothing

def test_floods_of_empty_frames(broker, port):
    """Fragments without end, empty ones, pings and pongs that nobody asked for: no memory, and MQTT goes on behind them."""
    many = fewer(20_000)
    with watched(broker, peak=4 * MB):
        client = Client(broker.stream(port))
        client.connect("c")
        send(client.stream, frame(BINARY, final=False), frame(CONTINUATION, final=False) * many, frame(CONTINUATION),
             frame(BINARY) * many, frame(PONG, b"x" * 125) * many)
        client.ping()
        client.close()


def test_empty_frames_do_not_keep_a_client_alive(broker, port):
    """Only bytes of MQTT do [MQTT-3.1.2-24]."""
    stream = broker.stream(port)
    Client(stream).connect("c", keepalive=1)
    stream.below.sock.settimeout(0.2)
    while True:
        try:
            stream.below.send(frame(PING) + frame(BINARY))
            if not stream.recv(1):
                break
        except (TimeoutError, streams.socket.timeout):
            continue
        except (ConnectionError, streams.ssl.SSLError):
            break
    broker.wait_log("Client c .* disconnected: it exceeded its keep alive of 1 seconds")


def test_pings_without_reading(broker, port):
    """The pongs that nobody reads are bounded; when they are read at last the connection is as good as new."""
    stream = broker.stream(port, receive_buffer=4096)
    client = Client(stream)
    client.connect("c")
    stream.below.sock.setblocking(False)
    pings, sent = frame(PING, b"x" * 125) * 100, 0
    with watched(broker, peak=4 * MB) as others:
        for _ in range(20):
            others[0].go_on()
            while True:
                try:
                    sent += stream.below.sock.send(pings[sent % len(pings):])
                except (BlockingIOError, streams.ssl.SSLWantWriteError, streams.ssl.SSLWantReadError):
                    break
                if sent > 20 * MB:
                    break
        stream.below.sock.settimeout(streams.TIMEOUT)
        rest = pings[sent % len(pings):] if port == "ws" else b""
        reader = iter(lambda: stream.recv(1), None)
        if port == "ws":  # of TLS a record may be half on its way
            threaded_send(stream, rest + frame(BINARY, PACKET))
            assert next(reader) == packet(PINGRESP, 0)
            assert set(stream.pongs) == {b"x" * 125}
        stream.close()


def threaded_send(stream, data):
    """While somebody else reads."""
    threading.Thread(target=stream.below.send, args=(data,), daemon=True).start()


# ---- closing

CLOSES = [
    (b"", 1005), (b"\x03\xe8", 1000), (b"\x03\xe9bye", 1001), (b"\x03\xe8" + b"x" * 123, 1000), (b"\x0b\xb8", 3000), (b"\x13\x87", 4999),
    # codes that may not be sent: answered by 1002
    *((struct.pack(">H", code), 1002) for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999)),
]


def test_close_frames(broker, port):
    """Answered, whatever they say; what comes behind them is not read."""
    watcher = broker.connect("watcher")
    watcher.subscribe("will")
    with watched(broker, peak=4 * MB):
        for data, code in CLOSES:
            stream = broker.stream(port)
            Client(stream).connect("c", will=Will("will"))
            send(stream, frame(CLOSE, data), frame(BINARY, publish("will", "behind")), frame(CLOSE, data), b"\xff" * 50)
            assert closing_code(stream) == code, data
            watcher.expect_message("will", "gone")
            stream.close()
    watcher.expect_nothing()


def test_nobody_answers_our_close_frame(broker, port):
    """It is waited for, but not for long, and nothing that comes meanwhile is read as MQTT."""
    watcher = broker.connect("watcher")
    watcher.subscribe("t")
    with watched(broker, peak=4 * MB):
        stuck = []
        for i in range(20):
            stream = broker.stream(port)
            Client(stream).connect(f"c{i}")
            send(stream, frame(BINARY, packet(DISCONNECT, 0)))
            send(stream, frame(BINARY, publish("t", "x")) * 100)
            stuck.append(stream)
        for stream in stuck:
            assert closing_code(stream) == 1000
        for stream in stuck[::2]:
            stream.close()
    for stream in stuck:
        stream.close()
    watcher.expect_nothing()


# ---- upgrades

OTHER = b"Sec-WebSocket-Protocol: "
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
NOT_COMPLETE = "its upgrade request is not complete"
NO_MQTT = 'it does not offer the sub-protocol "mqtt"'
UPGRADES = [
    (get(b"/", UPGRADE), 400, NO_MQTT),
    (get(b"/", UPGRADE, OTHER + b"MQTT\r\n"), 400, NO_MQTT),
    (get(b"/", UPGRADE, OTHER + b"mqtt5, amqp\r\n"), 400, NO_MQTT),
    (get(b"/", UPGRADE, OTHER + b"(http)\r\n"), 400, NO_MQTT),
    (get(b"/", UPGRADE, OTHER + b",,,\r\n"), 400, NO_MQTT),
    (get(b"/", UPGRADE, OTHER + b"x" * 300 + b", mqtt\r\n"), 400, NO_MQTT),
    (get(b"/", UPGRADE, OTHER + b"\r\n"), 400, NO_MQTT),
    (get(b"/", UPGRADE.replace(b": 13", b": 8"), MQTT), 426, "its WebSocket version is not 13"),
    (get(b"/", UPGRADE.replace(b": 13", b": 013"), MQTT), 426, "its WebSocket version is not 13"),
    (get(b"/", UPGRADE.replace(b": 13", b": 13, 13"), MQTT), 426, "its WebSocket version is not 13"),
    (get(b"/", UPGRADE.replace(b": 13", b": "), MQTT), 426, "its WebSocket version is not 13"),
    (get(b"/", UPGRADE.replace(KEY, b""), MQTT), 400, NOT_COMPLETE),
    (get(b"/", UPGRADE, KEY, MQTT), 400, NOT_COMPLETE),
    (get(b"/", UPGRADE.replace(KEY, b"Sec-WebSocket-Key: x\r\n"), MQTT), 400, NOT_COMPLETE),
    (get(b"/", UPGRADE.replace(KEY, b"Sec-WebSocket-Key: " + b"x" * 3000 + b"\r\n"), MQTT), 400, NOT_COMPLETE),
    (get(b"/", UPGRADE.replace(b": Upgrade", b": close"), MQTT), 400, NOT_COMPLETE),
    (get(b"/", UPGRADE.replace(b": Upgrade", b": upgraded"), MQTT), 400, NOT_COMPLETE),
    (get(b"/", UPGRADE, MQTT).replace(b"HTTP/1.1", b"HTTP/1.0"), 400, NOT_COMPLETE),
    (get(b"/", UPGRADE, MQTT).replace(b"GET", b"HEAD"), 405, "its method is not GET"),
    (get(b"/", UPGRADE, MQTT, b"Origin: https://evil.example\r\n"), 403, "its origin https://evil.example is not one of"),
    (get(b"/", UPGRADE, MQTT, b"Origin: null\r\n"), 403, "its origin null is not one of"),
    (get(b"/", UPGRADE, MQTT, b"Origin: \r\n"), 403, "no origin is not one of"),
    (get(b"/", UPGRADE, MQTT, b"Origin: " + b"x" * 1000 + b"\r\n"), 403, "no origin is not one of"),
    (get(b"/", UPGRADE, MQTT, b"Origin: https://good.example.evil.example\r\n"), 403, "is not one of websockets_origin"),
    (get(b"/", UPGRADE, MQTT, b"Origin: https://good.example, https://good.example\r\n"), 403, "is not one of websockets_origin"),
    (get(b"/", UPGRADE, MQTT, b"Origin: https://good.example\r\nOrigin: https://evil.example\r\n"), 403, "is not one of websockets_origin"),
    (get(b"/", UPGRADE, MQTT, b"Origin: https://evil.example\r\nOrigin: https://good.example\r\n"), 403, "is not one of websockets_origin"),
    (get(b"/", UPGRADE, MQTT), 403, "no origin is not one of"),
    (get(b"/%0aOrigin:https://good.example", UPGRADE, MQTT), 400, "the path of the HTTP request is malformed"),
    (get(b"/", UPGRADE, MQTT, b"X: y\nOrigin: https://good.example\r\n"), 400, "a header field of the HTTP request is malformed"),
    (get(b"/", UPGRADE, MQTT, b"Sec-WebSocket-Origin: https://evil.example\r\n"), 403, "is not one of websockets_origin"),
    (get(b"/", UPGRADE.replace(b": websocket", b": websocket, h2c"), MQTT), 403, "libwebsockets refused the HTTP request"),
]
GOOD = b"Origin: https://good.example\r\n"


def test_refused_upgrades(attacked, port):
    """Answered, closed, and the reason is in the log. Frames sent along are not looked at."""
    broker = attacked(BOTH.replace("protocol websockets\n", "protocol websockets\nwebsockets_origin https://good.example\n"))
    with watched(broker, peak=4 * MB, ports=("tcp",)):
        for request, status, reason in UPGRADES:
            fields = b"" if b"rigin" in request or "origin" in reason else GOOD
            web = RawHttp(broker, port)
            address = web.address.strip(r"\[]")
            web.send(request[:-2], fields, b"\r\n", frame(BINARY, connect("c")))
            assert web.status() == status, request
            assert web.ends(), request
            broker.wait_log(f"{address}]? (refused|disconnected): .*{reason}")
            web.close()
        web = RawHttp(broker, port)
        web.send(get(b"/", UPGRADE, MQTT, GOOD))
        assert web.status() == 101
        web.close()
    assert "New client connected from .* as c " not in broker.log


def test_second_upgrade(broker, port):
    """Inside of the WebSocket a request is a wrong frame."""
    stream = broker.stream(port)
    send(stream, get(b"/", UPGRADE, MQTT))
    assert closing_code(stream) == 1002
    broker.wait_log(RESERVED)


def test_slow_upgrade(broker, port):
    """One byte at a time: accepted, as long as it is in time."""
    with watched(broker, peak=4 * MB):
        web = RawHttp(broker, port)
        for byte in get(b"/mqtt", UPGRADE, MQTT):
            web.send(bytes([byte]))
        assert web.status() == 101
        for byte in frame(BINARY, connect("c")):
            web.send(bytes([byte]))
        while len(web.buffer) < 6:
            web._more()
        assert web.buffer == b"\x82\4" + packet(CONNACK, 0, b"\0\0")
        web.close()


def test_upgrades_and_silence_by_the_thousand(broker):
    """Open WebSockets without CONNECT: a few kilobytes each, for as long as connect_timeout lets them."""
    many = min(fewer(1000), many_descriptors(2500))
    with watched(broker, peak=20 * MB, after=12 * MB):
        silent = []
        for _ in range(many):
            web = RawHttp(broker, "ws")
            web.send(get(b"/", UPGRADE, MQTT), frame(BINARY, b"\x10")[:5])
            silent.append(web)
        for web in silent:
            assert web.status() == 101
        broker.connect("c", "wss").ping()
        for web in silent:
            web.close()


def test_connect_timeout(attacked):
    broker = attacked(BOTH + "connect_timeout 1\n")
    with watched(broker, peak=4 * MB, ports=("tcp",)):
        silent = [broker.stream(port) for port in ("ws", "wss") for _ in range(10)]
        for stream in silent:
            send(stream, frame(BINARY, connect("c")[:5]))
            closing_code(stream)
            stream.close()
    broker.wait_log("no CONNECT came in time", len(silent))


# ---- the end, anywhere

def test_end_at_every_byte(broker, port):
    """Of upgrade, CONNECT, a message and a close frame; by an orderly end, and by a reset."""
    data = (get(b"/", UPGRADE, MQTT) + frame(BINARY, connect("c", will=Will("will"))) + frame(PING, b"x") +
            frame(BINARY, publish("t", "x" * 200), size=(len(publish("t", "x" * 200)), 64)) + frame(CLOSE, b"\x03\xe8"))
    step = (7 if SANITIZED else 1) * (5 if port == "wss" else 1)
    with watched(broker, peak=4 * MB):
        for n, end in itertools.product(range(0, len(data) + 1, step), (RawHttp.close, RawHttp.reset)):
            web = RawHttp(broker, port)
            web.send(data[:n])
            end(web)


def test_take_over_and_wrong_frame_at_once(broker, port):
    """The connection that is closed for a new one of the same client id has just sent what closes it, too."""
    with watched(broker, peak=4 * MB):
        for data, _, _ in WRONG[::4]:
            first = broker.stream(port)
            Client(first).connect("same", clean=False)
            second = broker.client(port)
            send(first, data)
            second.connect("same", clean=False)
            second.ping()
            second.close()
            first.close()
