"""Chapter 6: MQTT over WebSocket. The breakers stand below the WebSocket here: they see its head and its frames."""

from bench import Client, statement
from breakers import UP, body, change, drop, hold_close, repaired
from proxy import HEAD
from rawmqtt import (CONNACK, PINGREQ, PINGRESP, PUBACK, PUBLISH, SUBACK, connect, packet, publish, subscribe)
from streams import HttpError

WS = ("ws",)
TEXT, BINARY, CLOSE = 1, 2, 8


def kind(number):
    return lambda frame: type(frame)(number, frame.body, frame.flags)


@statement("6.0.0-1", {
    "the broker hangs instead of closing": hold_close() + drop(CLOSE),
    "text frames are taken": repaired(TEXT, kind(BINARY)),
    "the broker sends text frames": change(BINARY, kind(TEXT)),
    "its later ones are text frames": change(BINARY, kind(TEXT), skip=1),
}, ways=WS)
def test_6_0_0_1_binary_frames(bench):
    client = bench.connect("ws")
    assert client.subscribe((bench.topic("t"), 1)) == [1]
    bench.publish("t", "x" * 70000)
    client.expect_message(bench.topic("t"), "x" * 70000)  # streams.WebSocket takes MQTT in binary frames only
    for first in (True, False):
        client = bench.client()
        if not first:
            client.connect(bench.id("text"))
        data = connect(bench.id("text")) if first else packet(PINGREQ, 0)
        client.stream.below.send(client.stream.frame(TEXT, data))
        client.expect_closed()


def whole(data):
    """The packets of a frame as a broker would see them that knows of nothing but one packet in one frame."""
    size, at = data[1] & 127, 2
    if data[1] & 128:
        size, at = size | (data[2] & 127) << 7, 3
    return data[:at + size] if len(data) >= at + size else b""


def cut(frame):
    return type(frame)(frame.kind, whole(frame.body) if len(frame.body) > 1 else b"", frame.flags)


@statement("6.0.0-2", {
    "only the first packet of a frame counts": repaired(BINARY, cut),
    "a part of a packet is lost": drop(BINARY, side=UP, when=lambda f: f.kind == BINARY and len(whole(f.body + b"\0\0")) == 0),
    "continuation frames are lost": drop(0, side=UP),
}, ways=WS)
def test_6_0_0_2_frames_and_packets(bench):
    name = bench.topic("t")
    # several packets in one frame, and the end of one with the start of the next
    client = bench.client()
    data = connect(bench.id("ws")) + subscribe(1, (name, 1)) + publish(name, "x", 1, mid=2) + packet(PINGREQ, 0)
    client.send(data)
    client.expect(CONNACK)
    client.expect(SUBACK, 1)
    assert sorted(client.next().kind for _ in range(3)) == sorted([PUBACK, PUBLISH, PINGRESP])
    # one packet in several frames, down to one byte each
    for size in (1, 2, 3, 7, 20):
        client = bench.client()
        data = connect(bench.id("ws")) + subscribe(1, (name, 1)) + publish(name, "y" * 30, 1, mid=2)
        for at in range(0, len(data), size):
            client.send(data[at:at + size])
        client.expect(CONNACK)
        client.expect(SUBACK, 1)
        assert sorted(client.next().kind for _ in range(2)) == sorted([PUBACK, PUBLISH])
    # fragments of one WebSocket message
    client = bench.client()
    data = connect(bench.id("ws")) + packet(PINGREQ, 0)
    for at, opcode, final in ((0, BINARY, False), (5, 0, False), (9, 0, True)):
        end = {0: 5, 5: 9}.get(at, len(data))
        client.stream.below.send(client.stream.frame(opcode, data[at:end], final))
    client.expect(CONNACK)
    client.expect(PINGRESP)


def offers(protocol):
    """The head, with this sub-protocol instead of what it offers."""
    def changed(data):
        lines = [line for line in data.decode().split("\r\n") if not line.lower().startswith("sec-websocket-protocol:")]
        return "\r\n".join(lines[:-2] + ([f"Sec-WebSocket-Protocol: {protocol}"] if protocol else []) + ["", ""]).encode()
    return body(changed)


@statement("6.0.0-3", {
    "any will do": change(HEAD, offers("mqtt"), side=UP),
    "none will do": change(HEAD, offers("mqtt"), side=UP, when=lambda head: b"rotocol" not in head.body),
    "mqttv3.1 is refused": change(HEAD, offers("chat"), side=UP, when=lambda head: b"mqttv3.1" in head.body),
}, ways=WS)
def test_6_0_0_3_sub_protocol_is_offered(bench):
    def refused(protocol):
        try:
            got = bench.stream(protocol=protocol)
        except HttpError as error:
            assert 400 <= error.status < 500, f"status {error.status}"
            return
        raise AssertionError(f"{protocol} was accepted as {got.protocol}")
    bench.every({str(name): name for name in (None, "chat", "MQTT", "mqtt5", "mqttx", "xmqtt", "mqttv3.11", "chat, xmqtt")},
                refused)
    for level, protocol in ((3, "mqttv3.1"), (4, "mqtt")):
        stream = bench.stream(protocol=protocol)
        assert stream.protocol == protocol
        Client(stream).connect(bench.id("ws"), level=level)


@statement("6.0.0-4", {
    "none is selected": change(HEAD, offers(None)),
    "another is selected": change(HEAD, offers("chat")),
    "mqttv3.1 is selected": change(HEAD, offers("mqttv3.1"), when=lambda head: b"mqtt" in head.body),
}, ways=WS)
def test_6_0_0_4_sub_protocol_is_selected(bench):
    for offered in ("mqtt", "chat, mqtt", "mqtt, chat", "chat,mqtt,other"):
        stream = bench.stream(protocol=offered)
        assert stream.protocol == "mqtt", f"of {offered!r} {stream.protocol!r} was selected"
        Client(stream).connect(bench.id("ws"))
