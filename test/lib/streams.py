"""streams: bytes to and from the broker, over TCP, Unix socket, TLS and WebSocket, each stacked on the one below.

send(bytes) sends all; recv(n) gives what is there, b"" at the end; both raise TimeoutError after TIMEOUT seconds of
nothing.
"""

import base64
import hashlib
import os
import socket
import ssl
import struct

TIMEOUT = 20.0  # far more than anything takes, also on a slow machine with sanitizers


class Closed(Exception):
    """The other end has closed."""


class Plain:
    """A connected socket, of any kind; TLS sockets too."""

    def __init__(self, sock):
        self.sock = sock
        sock.settimeout(TIMEOUT)

    def send(self, data):
        try:
            self.sock.sendall(data)
        except ssl.SSLEOFError as error:  # what a broken connection is called here
            raise ConnectionResetError(str(error)) from error

    def recv(self, n):
        try:
            return self.sock.recv(n)
        except ssl.SSLEOFError as error:
            raise ConnectionResetError(str(error)) from error

    def patience(self, seconds):
        """How long recv() waits from now on."""
        self.sock.settimeout(seconds)

    def end_output(self):
        """Ends our direction, without any farewell of TLS; the other can still be read to its end (of TLS: as noise)."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self):
        self.sock.close()

    def reset(self):
        if self.sock.family != socket.AF_UNIX:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


def tcp(port, host="127.0.0.1", receive_buffer=None):
    """receive_buffer: of the socket, in bytes; a small one lets the broker feel soon that nobody reads."""
    last = None
    for family, kind, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind)
        try:
            if receive_buffer:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            sock.settimeout(TIMEOUT)
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return Plain(sock)
        except OSError as error:
            sock.close()
            last = error
    raise last


def unix(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    return Plain(sock)


def tls_context(ca=None, cert=None, key=None):
    """ca None: whatever certificate comes is taken."""
    context = ssl.create_default_context(cafile=ca and str(ca))
    if not ca:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cert:
        context.load_cert_chain(str(cert), str(key))
    return context


def tls(below, context, name="localhost"):
    return Plain(context.wrap_socket(below.sock, server_hostname=name, suppress_ragged_eofs=True))


class HttpError(Exception):
    """The answer to the upgrade was no 101; status has its number."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


class WebSocket:
    """The client's side of RFC 6455, as little as tests need. Each send() is one binary frame."""

    def __init__(self, below, path="/mqtt", protocol="mqtt", origin=None, host="localhost"):
        self.below = below
        self.buffer = bytearray()
        self.closed = None  # the code of the close frame that came
        self.pongs = []
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [f"GET {path} HTTP/1.1", f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade",
                 f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13"]
        if protocol:
            lines.append("Sec-WebSocket-Protocol: " + protocol)
        if origin:
            lines.append("Origin: " + origin)
        below.send("\r\n".join(lines + ["", ""]).encode())
        head, fields = self._answer()
        if " 101 " not in head + " ":
            raise HttpError(int(head.split()[1]), head)
        accept = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        assert fields["sec-websocket-accept"] == base64.b64encode(accept).decode()
        self.protocol = fields.get("sec-websocket-protocol")

    def _more(self):
        data = self.below.recv(65536)
        if not data:
            raise Closed("the broker closed the connection")
        self.buffer += data

    def _answer(self):
        while b"\r\n\r\n" not in self.buffer:
            self._more()
        head, _, rest = bytes(self.buffer).partition(b"\r\n\r\n")
        self.buffer = bytearray(rest)
        first, *lines = head.decode().split("\r\n")
        return first, {k.strip().lower(): v.strip() for k, v in (line.split(":", 1) for line in lines)}

    def frame(self, opcode, data, final=True, masked=True):
        """The bytes of one frame."""
        head = bytes([(0x80 if final else 0) | opcode])
        bit = 0x80 if masked else 0
        if len(data) < 126:
            head += bytes([bit | len(data)])
        elif len(data) < 65536:
            head += struct.pack(">BH", bit | 126, len(data))
        else:
            head += struct.pack(">BQ", bit | 127, len(data))
        if not masked:
            return head + data
        mask = os.urandom(4)
        key = int.from_bytes((mask * (len(data) // 4 + 1))[:len(data)], "big")
        return head + mask + (int.from_bytes(data, "big") ^ key).to_bytes(len(data), "big")

    def send(self, data):
        self.below.send(self.frame(2, data))

    def _need(self, n):
        while len(self.buffer) < n:
            self._more()

    def _next_frame(self):
        self._need(2)
        opcode, size = self.buffer[0] & 15, self.buffer[1]
        assert not size & 0x80, "a server must not mask its frames"
        at = 2
        if size >= 126:
            at = 4 if size == 126 else 10
            self._need(at)
            size = int.from_bytes(self.buffer[2:at], "big")
        self._need(at + size)
        data = bytes(self.buffer[at:at + size])
        del self.buffer[:at + size]
        return opcode, data

    def recv(self, _n):
        while True:
            try:
                opcode, data = self._next_frame()
            except Closed:
                return b""
            if opcode in (0, 2) and data:
                return data
            assert opcode != 1, f"MQTT in a text frame: {data[:60]!r}"
            if opcode == 8:
                self.closed = int.from_bytes(data[:2], "big") if data else 1005
                return b""
            if opcode == 9:
                self.below.send(self.frame(10, data))
            if opcode == 10:
                self.pongs.append(data)

    def patience(self, seconds):
        self.below.patience(seconds)

    def end_output(self):
        self.below.end_output()

    def close(self):
        self.below.close()

    def reset(self):
        self.below.reset()
