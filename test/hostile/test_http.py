"""HTTP requests of every kind on a websockets listener, with a page and without TLS or with it. Whatever comes is answered
(a file of the page, a refusal) or ends its own connection; no file from elsewhere, nobody disturbed, and the log says why."""

import itertools
import re

import pytest

from attack import MB, fewer, many_descriptors
from bramble import SANITIZED
from web import BOTH, HOST, MQTT, UPGRADE, RawHttp, get, watched

PAGE = {"page/index.html": "<!doctype html><title>hello</title>", "page/app.js": "x" * 100_000, "page/a b.txt": "blank",
        "page/sub/index.html": "below", "page/sub/deep/x.txt": "deep", "page/large.bin": "y" * (3 << 20),
        "page/.hidden": "secret", "outside.txt": "secret", "page2/index.html": "secret"}
BODIES = {text.encode() for name, text in PAGE.items() if text != "secret"}

MALFORMED = "the HTTP request is malformed"
PATH = "the path of the HTTP request is malformed"
FIELD = "a header field of the HTTP request is malformed"
HOSTS = "the HTTP request has no Host field, or several"
METHOD = "the method of the HTTP request is neither GET nor HEAD"
VERSION = "the version of the HTTP request is neither 1.1 nor 1.0"
NO_HTTP = "the client does not speak HTTP"
MANY = "the HTTP request has more than 64 header fields and parts of its query"
LARGE = r"the header of the HTTP request is larger than 4096 bytes \(websockets_headers_size\)"
LIBRARY = "libwebsockets refused the HTTP request"


def step(n, port="ws"):
    """Of long lists: all of it over TCP; each n-th with sanitizers, where all is slow, and below TLS, where it is the same."""
    return n * (2 if SANITIZED and port == "wss" else 1) if SANITIZED or port == "wss" else 1


@pytest.fixture
def site(attacked):
    return attacked(BOTH.replace("protocol websockets\n", "protocol websockets\nhttp_dir {dir}/page\n") + "log_type all\n",
                    files=PAGE)


@pytest.fixture(params=["ws", "wss"])
def port(request):
    return request.param


# ---- what is no request

REFUSED = [
    (b"GET /\r\n\r\n", 400, MALFORMED),  # HTTP/0.9
    (b"GET / HTTP/0.9\r\n\r\n", 505, VERSION),
    (b"GET / HTTP/1.2\r\n" + HOST + b"\r\n", 505, VERSION),
    (b"GET / HTTP/2.0\r\n" + HOST + b"\r\n", 505, VERSION),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\4\0\0\0\0\0", 505, VERSION),  # how HTTP/2 begins
    (b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n", 400, MALFORMED),
    (b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n", 400, MALFORMED),
    (b"GET / HTTP/1.1\n" + HOST + b"\r\n", 400, MALFORMED),
    (b"GET / HTTP/1.1\r" + HOST + b"\r\n", 400, MALFORMED),
    (b"\r\nGET / HTTP/1.1\r\n" + HOST + b"\r\n", 400, NO_HTTP),
    (b"\n", 400, NO_HTTP),
    (b"\0", 400, NO_HTTP),
    (b"\xff" * 5000, 400, NO_HTTP),
    (b"\x10\x0c\0\4MQTT\4\2\0\x3c\0\0", 400, "the client speaks plain MQTT, but this listener speaks WebSocket"),
    (b"\x16\3\1\0\5\1\0\0\1\0", 400, "the client speaks TLS, but this listener does not"),
    (b"\x82\x80\0\0\0\0", 400, NO_HTTP),  # a frame before there is a WebSocket
    *((method + b" / HTTP/1.1\r\n" + HOST + b"\r\n", 405, METHOD)
      for method in (b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"BREW", b"GETS", b"M-SEARCH")),
    (b"get / HTTP/1.1\r\n" + HOST + b"\r\n", 400, NO_HTTP),
    (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", 405, METHOD),
    (b"CONNECT h:80 HTTP/1.1\r\n" + HOST + b"\r\n", 405, METHOD),
    (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 10000000000\r\n\r\n" + b"x" * 100_000, 405, METHOD),
    (b"POST / HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\n\r\n", 405, METHOD),
    (b"G(T / HTTP/1.1\r\n" + HOST + b"\r\n", 400, MALFORMED),
    *((get(path), 400, PATH)
      for path in (b"*", b"http://h/", b"https://h/", b"HTTP://h:99999999/", b"index.html", b"//\x80", b"/%", b"/%4", b"/%zz",
                   b"/%00", b"/x%00.html", b"/\0", b"/%0a", b"/%0dX", b"/%0d%0aOrigin:x", b"/?%0aHost:h", b"/%1b[2J", b"/%7f",
                   b"/\xc3\xa4", b"/\x01")),
    (b"GET / HTTP/1.1\r\n\r\n", 400, HOSTS),
    (b"GET / HTTP/1.1\r\n" + HOST + b"Host: other\r\n\r\n", 400, HOSTS),
    *((get(b"/", field), 400, FIELD)
      for field in (b"Content-Length : 5\r\n", b" folded: yes\r\n", b"\tfolded\r\n", b"nothing\r\n", b": empty\r\n", b"a b: c\r\n",
                    b"a\0: c\r\n", b"a: \0\r\n", b"a: b\nOrigin: c\r\n", b"a: \x1b[2J\r\n", b"(: x\r\n",
                    b"\x80: x\r\n")),
    (get(b"/", b"a: b\rOrigin: c\r\n"), 400, MALFORMED),
    (get(b"/" + b"x" * 5000), 431, LARGE),
    (get(b"/", b"X: " + b"y" * 5000 + b"\r\n"), 431, LARGE),
    (get(b"/", b"Cookie: " + b"z" * 100_000 + b"\r\n"), 431, LARGE),
    (b"G" * 5000, 431, LARGE),  # no end of a line in sight
    (get(b"/", b"A: b\r\n" * 100), 431, MANY),
    (get(b"/", b"Accept: b\r\n" * 100), 431, MANY),
    (get(b"/?" + b"a&" * 100), 431, MANY),
    (get(b"/?" + b"a=b;" * 100), 431, MANY),
    (get(b"/", b"Upgrade: nonsense\r\nConnection: Upgrade\r\n"), 403, LIBRARY),
]


def test_refused(site, port):
    """Each is answered, closed, and has its reason in the log; what came with it is no second request."""
    with watched(site, peak=4 * MB):
        for request, status, reason in REFUSED:
            web = RawHttp(site, port)
            web.send(request, get(b"/app.js"))
            got = web.answer()
            assert got and got[0] == status, f"{request[:80]!r}: {got and got[0]}"
            assert web.ends(), f"{request[:80]!r}: more than one answer"
            site.wait_log(f"Client 127.0.0.1 {web.address} disconnected: {reason}")
            web.close()


def test_refused_byte_by_byte(site, port):
    """The same verdicts, whatever the portions are."""
    with watched(site, peak=4 * MB):
        for request, status, _ in REFUSED[:: step(4, port)]:
            web = RawHttp(site, port)
            for i in range(min(len(request), 200)):
                web.send(request[i:i + 1])
            web.send(request[200:])
            assert web.status() == status, f"{request[:80]!r}"
            web.close()


def test_refused_behind_good_ones(site, port):
    """On a connection that was kept."""
    with watched(site, peak=4 * MB):
        for request, status, _ in REFUSED:
            web = RawHttp(site, port)
            web.send(get(b"/"), get(b"/sub/"), request)
            assert [web.status(), web.status(), web.status()] == [200, 200, status], f"{request[:80]!r}"
            assert web.ends()
            web.close()


# ---- bodies: two requests where there seems to be one

SMUGGLED = b"GET /sub/ HTTP/1.1\r\n" + HOST + b"\r\n"


BODY_FIELDS = [
    b"Content-Length: %d\r\n" % len(SMUGGLED),
    b"Content-Length: 5\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 99999999999999999999999999\r\n",
    b"Content-Length: 0x10\r\n",
    b"Content-Length: 0\r\nContent-Length: %d\r\n" % len(SMUGGLED),
    b"Content-Length: 0, 0\r\n",
    b"Content-Length: +0\r\n",
    b"Content-Length:\t0\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: xchunked\r\n",
    b"Transfer-Encoding: identity, chunked\r\n",
    b"Transfer-Encoding:\x0bchunked\r\n",
    b"Transfer-Encoding : chunked\r\n",
]


def test_bodies(site, port):
    """A request that may have a body is the last of its connection, whatever it says about the length."""
    bodies = (SMUGGLED, b"0\r\n\r\n" + SMUGGLED, b"5\r\nhello\r\n0\r\n\r\n" + SMUGGLED)
    with watched(site, peak=4 * MB):
        for fields, body in itertools.product(BODY_FIELDS, bodies):
            web = RawHttp(site, port)
            web.send(get(b"/", fields), body)
            status, _, text = web.answer()
            assert (status, text) == (200, PAGE["page/index.html"].encode()) or status == 400, fields
            assert web.ends(), f"the body was taken for a request: {fields}"
            web.close()


# ---- paths

DOTS = [b"..", b"%2e%2e", b".%2e", b"%2E.", b"%252e%252e", b"...", b"....", b"..;", b"..%00", b"%c0%ae%c0%ae", b"%e0%80%ae%2e",
        b"%uff0e%uff0e", b"\xc0\xae.", b"..%20", b".", b"~"]
SLASHES = [b"/", b"//", b"%2f", b"%5c", b"\\", b"%252f", b"%c0%af", b"/./", b"%2F/", b"/%00/"]
TARGETS = [b"outside.txt", b"page2/index.html", b"etc/passwd", b".hidden", b"page/../outside.txt", b"index.html"]


def test_paths(site, port):
    """All ways to write "one up", from all depths."""
    paths = [b"/" + prefix + (dots + slash) * times + target
             for prefix, dots, slash, target in itertools.product((b"", b"sub/"), DOTS, SLASHES, TARGETS) for times in (1, 2, 9)]
    paths += [b"//etc/passwd", b"/file:///etc/passwd", b"/C:/x", b"/sub", b"/sub/deep", b"/sub/deep/", b"/app.js/", b"/index.html/x",
              b"/" * 3000, b"/." * 1500, b"/.." * 1000, b"/../" * 500 + b"etc/passwd", b"/sub/" * 500, b"/?/../../etc/passwd",
              b"/a%20b.txt/..%2foutside.txt", b"/;/outside.txt", b"/&/../outside.txt", b"/+", b"/=", b"/#", b"/?" + b"=" * 3000]
    seen = {}
    with watched(site, peak=4 * MB):
        web = None
        for path in paths[:: step(7, port)]:
            web = web or RawHttp(site, port)
            web.send(get(path))
            status, fields, body = web.answer()
            seen[status] = seen.get(status, 0) + 1
            assert status in (200, 400, 404, 431), (path, status)
            assert b"secret" not in body and b"root:" not in body, path
            assert status != 200 or body in BODIES, path
            if fields.get("connection") == "close":
                web.close()
                web = None
        if web:
            web.close()
    assert min(seen[200], seen[400], seen[404]) > 2, seen  # of each kind there were some
    site.wait_log("HTTP request for /.*: not found", 10)


# ---- one wrong byte

def test_every_byte_bent(site, port):
    """Each byte of a good request replaced by each of these, and left out; then the connection still answers, or ends."""
    request = get(b"/sub/%64eep/x.txt?a=b", b"Connection: keep-alive\r\nAccept-Encoding: gzip;q=0.5, x\r\nIf-None-Match: \"a\", W/\"b\"\r\n")
    wrong = [b"", b"\0", b"\r", b"\n", b" ", b"\t", b"%", b":", b"/", b"?", b"\x7f", b"\x80", b"\xff", b"A"]
    with watched(site, peak=4 * MB):
        web = None
        for at, byte in list(itertools.product(range(len(request) - 4), wrong))[:: step(11, port)]:
            web = web or RawHttp(site, port)
            web.send(request[:at], byte, request[at + 1:])
            got = web.answer()
            assert got, (at, byte)
            assert got[0] in (200, 304, 400, 404, 405, 505), (at, byte, got[0])
            assert got[0] != 200 or got[2] in BODIES
            if got[1].get("connection") == "close":
                assert web.ends(), (at, byte)
                web.close()
                web = None
        if web:
            web.close()


def test_every_cut(site, port):
    """A request that ends at any byte: the client says no more, hangs up, or resets."""
    request = get(b"/sub/", UPGRADE, MQTT)
    with watched(site, peak=4 * MB):
        for n in range(0, len(request), step(13, port)):
            for end in (RawHttp.close, RawHttp.reset):
                web = RawHttp(site, port)
                web.send(request[:n])
                end(web)


# ---- many

def test_pipelined(site, port):
    """Hundreds of requests in one piece, and not a byte is read before all were sent: answered in their order."""
    many = 300
    with watched(site, peak=4 * MB):
        web = RawHttp(site, port)
        web.send(b"".join(get(b"/app.js" if i % 50 == 7 else b"/sub/" if i % 2 else b"/nothing/%d" % i) for i in range(many)))
        for i in range(many):
            status, _, body = web.answer()
            want = "page/app.js" if i % 50 == 7 else "page/sub/index.html" if i % 2 else None
            assert (status, body) == ((200, PAGE[want].encode()) if want else (404, b"Not found.\n")), i
        web.send(b"HEAD /app.js HTTP/1.1\r\n" + HOST + b"\r\n" + get(b"/sub/", UPGRADE, MQTT))
        assert web.answer(head=True)[1]["content-length"] == "100000"
        assert web.status() == 101
        web.close()


def test_thousands(site, port):
    """One request, or half of one, on each connection; ended in all ways."""
    with watched(site, peak=8 * MB, after=6 * MB):
        for i in range(3000 // step(10, port)):
            web = RawHttp(site, port)
            web.send(get(b"/sub/")[:len(get(b"/sub/")) if i % 3 else i % 40])
            if i % 3 == 1:
                assert web.status() == 200
            (web.reset if i % 2 else web.close)()


def test_idle_connections_make_room(site):
    """Hundreds that are kept open: no more than HTTP_CONNS (64) stay, and the next one is answered."""
    descriptors = site.descriptors()
    with watched(site, peak=4 * MB) as others:
        kept = []
        for _ in range(200):
            web = RawHttp(site, "ws")
            web.send(get(b"/"))
            assert web.status() == 200
            kept.append(web)
        for _ in range(500):
            others[0].go_on()
            if site.descriptors() <= descriptors + 64 + 8:
                break
        assert site.descriptors() <= descriptors + 64 + 8
        for web in kept:
            web.close()


def test_slow_readers_of_large_files(site):
    """As many as may be, none of them reads. The file is not copied for them; a WebSocket is open to everybody else."""
    with watched(site, peak=12 * MB):
        stuck = []
        for _ in range(64):
            web = RawHttp(site, "ws", receive_buffer=4096)
            web.send(get(b"/large.bin"))
            stuck.append(web)
        last = RawHttp(site, "ws")
        last.send(get(b"/"))
        assert last.status() in (200, 503)  # the system may have taken much of the file for some of them
        site.connect("c", "ws").ping()
        for web in stuck:
            web.close()


def test_half_requests_by_the_thousand(site):
    """They cost some hundred bytes each, for as long as handshake_timeout lets them."""
    many = min(fewer(2000), many_descriptors(4500))
    with watched(site, peak=6 * MB, after=4 * MB):
        stuck = []
        for _ in range(many):
            web = RawHttp(site, "ws")
            web.send(b"GET / HTTP/1.1\r\nX-Slow: ")
            stuck.append(web)
        last = RawHttp(site, "wss")
        last.send(get(b"/"))
        assert last.status() == 200
        last.close()
        for web in stuck:
            web.close()


def test_slow_request(attacked):
    """handshake_timeout ends what never gets to its end, however many bytes come, and the log says so."""
    broker = attacked(BOTH + "handshake_timeout 1\n")
    with watched(broker, peak=6 * MB):
        slow = [RawHttp(broker, port) for port in ("ws", "wss") for _ in range(20)]
        for i, web in enumerate(slow):
            web.send(b"GET / HTTP/1.1\r\nX: y"[:i])
        for web in slow:
            assert web.ends()
        broker.wait_log("no WebSocket request within 1000 ms", len(slow))
        for web in slow:
            web.close()


# ---- what a browser may send and we do not do

IDLE_FIELDS = [
    b"Range: bytes=0-1\r\n", b"Range: bytes=-1\r\n", b"Range: bytes=5-1\r\n", b"Range: bytes=0-0,1-1,2-2,3-3\r\n",
    b"Range: bytes=" + b"0-," * 800 + b"\r\n", b"Range: bytes=99999999999999999999-\r\n", b"Range: lines=1-2\r\n",
    b"If-Range: \"x\"\r\nRange: bytes=0-1\r\n", b"If-None-Match: " + b"\"x\", " * 300 + b"\"y\"\r\n", b"If-None-Match: \"\r\n",
    b"If-None-Match: W/\r\n", b"Accept-Encoding: " + b"gzip;q=0, " * 100 + b"\r\n", b"Accept-Encoding: gzip;q=1e999\r\n",
    b"Accept-Encoding: ,,,;;;q=,\r\n", b"Expect: 100-continue\r\n", b"TE: trailers\r\n", b"Upgrade: h2c\r\nConnection: Upgrade\r\n",
    b"Connection: Upgrade\r\nUpgrade:\r\n", b"X-HTTP-Method-Override: DELETE\r\n", b"X-Original-URL: /outside.txt\r\n",
    b"Accept: " + b"x" * 3000 + b"\r\n", b"Cookie: " + b"a=b; " * 500 + b"\r\n"]


def test_fields_that_do_not_matter(site, port):
    """The whole file comes, and the connection stays."""
    with watched(site, peak=4 * MB):
        web = RawHttp(site, port)
        for fields in IDLE_FIELDS:
            web.send(get(b"/sub/deep/x.txt", fields))
            status, answer, body = web.answer()
            assert (status, body) == (200, b"deep") and "connection" not in answer, fields
        web.close()


def test_log_is_not_written_by_clients(site):
    """What is asked for stands in the log on one line, without control characters."""
    web = RawHttp(site, "ws")
    for path in (b"/%e2%80%a8x", b"/%c2%9bx", b"/%ff%fe", b"/x%20%22y"):
        web.send(get(path))
        assert web.status() == 404
    web.send(get(b"/last"))
    assert web.status() == 404
    site.wait_log("HTTP request for /last: not found")
    lines = [line for line in site.log.split("\n") if "HTTP request for" in line]
    assert len(lines) == 5 and not re.search("[\x00-\x1f\x7f-\x9f]", "".join(lines)), lines
    web.close()
