"""web: raw HTTP, and what goes on around an attack on a listener, for tests of hostile input.

    with watched(broker, peak=8 * MB):         # bystanders at tcp and wss, memory, descriptors
        web = RawHttp(broker, "wss")
        web.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        status, fields, body = web.answer()
        assert web.ends()
"""

import contextlib
import re

import streams
from attack import Bystanders, Memory

BOTH = "listener {tcp} 127.0.0.1\nlistener {ws} 127.0.0.1\nprotocol websockets\nlistener {wss} 127.0.0.1\n" \
       "protocol websockets\ncertfile {pki}/server.crt\nkeyfile {pki}/server.key\n"
HOST = b"Host: h\r\n"
UPGRADE = (b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
           b"Sec-WebSocket-Version: 13\r\n")
MQTT = b"Sec-WebSocket-Protocol: mqtt\r\n"


def get(path=b"/", *fields):
    return b"GET " + path + b" HTTP/1.1\r\n" + HOST + b"".join(fields) + b"\r\n"


@contextlib.contextmanager
def watched(broker, peak, after=None, ports=("tcp", "wss")):
    """What is done inside disturbs nobody at these ports, takes no more memory than peak at any time (and leaves no more
    than after), and leaves no descriptor open."""
    memory, descriptors = Memory(broker), broker.descriptors()
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(Bystanders(broker, port)) for port in ports]
        yield others
        allowed = descriptors + 2 * len(others) + 1  # and a log that may be opening
        for _ in range(500):  # what lingers (a closing handshake that nobody answers) does so for some seconds
            for other in others:
                other.go_on()
            if broker.descriptors() <= allowed:
                break
        assert broker.descriptors() <= allowed
    memory.check(peak, after)


def below(broker, port, **options):
    """The bytes below HTTP: of a TCP connection, or of a TLS one."""
    plain = streams.tcp(broker.ports[port], **options)
    return streams.tls(plain, streams.tls_context(broker.pki.ca)) if port.startswith("wss") else plain


class RawHttp:
    def __init__(self, broker, port, **options):
        self.stream = below(broker, port, **options)
        self.buffer = b""

    @property
    def address(self):
        """As the log has it: a regular expression."""
        return r"\[127\.0\.0\.1:%d\]" % self.stream.sock.getsockname()[1]

    def send(self, *data):
        """The daemon may have closed already; then the answer says why."""
        with contextlib.suppress(ConnectionError, streams.ssl.SSLError):
            self.stream.send(b"".join(data))

    def _more(self):
        try:
            data = self.stream.recv(65536)
        except ConnectionError:
            data = b""
        self.buffer += data
        return bool(data)

    def answer(self, head=False):
        """Status, fields (names in lower case) and body of the next answer; None at the end of the connection."""
        while b"\r\n\r\n" not in self.buffer:
            if not self._more():
                assert not self.buffer, f"half an answer: {self.buffer[:200]!r}"
                return None
        text, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        first, *lines = text.decode("latin-1").split("\r\n")
        status = int(re.fullmatch(r"HTTP/1\.[01] (\d{3}) [A-Za-z ]+", first)[1])
        fields = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines)}
        size = 0 if head or status in (101, 304) else int(fields["content-length"])
        while len(self.buffer) < size:
            assert self._more(), "the body is cut"
        body, self.buffer = self.buffer[:size], self.buffer[size:]
        return status, fields, body

    def status(self):
        got = self.answer()
        return got and got[0]

    def ends(self):
        """The daemon closes, without another byte."""
        while self._more():
            pass
        return not self.buffer

    def close(self):
        self.stream.close()

    def reset(self):
        self.stream.reset()
