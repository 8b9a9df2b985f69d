"""player: plays a script against a broker, and has the model judge what has come of it.

One thread and one selector: lines of the script send, and only wait, poll and settle (and the end) read. So a script
played twice sends the same bytes in the same order; what the broker makes of lines that overlap is its own affair, and
the model allows all that it may make of them.

A line never waits for time: wait and settle end when the broker has answered a PINGREQ that was sent behind everything
else. After two rounds of PINGREQs to everybody in which nothing else came, nothing is under way any more: what the
first was answered behind has left for its subscribers before the second could be answered.
"""

import selectors
import socket
import ssl

import rawmqtt
import streams
from client import KIND_OF, NEVER, Client, Conn, Message, Route, Wrong
from model import Model
from rawmqtt import PINGRESP, SUBACK, UNSUBACK, Packet, Will
from script import TOPICS, header

MOST_ROUNDS = 10000  # of PINGREQs in one settle: more is a broker that never comes to rest


class Limits:
    """What the configuration lines of a script mean for the model."""

    def __init__(self, config):
        value = dict(line.split() for line in config)
        self.max_inflight = int(value.get("max_inflight_messages", 20))
        self.max_queued = int(value.get("max_queued_messages", 0)) or None  # the default is beyond any script
        self.queue_qos0 = value.get("queue_qos0_messages") == "true"


def would_block(error):
    return isinstance(error, (BlockingIOError, ssl.SSLWantReadError))


class Player:
    """open_stream(transport) connects. One Player plays one script. patience: seconds until silence is wrong."""

    def __init__(self, open_stream, lines, patience=streams.TIMEOUT):
        config, transports, self.steps = header(lines)
        self.open_stream = open_stream
        self.patience = patience
        self.limits = Limits(config)
        self.max_inflight = self.limits.max_inflight
        self.clients = {name: Client(self, name, transport) for name, transport in transports.items()}
        self.selector = selectors.DefaultSelector()
        self.routes = []
        self.messages = {}
        self.trace = []
        self.now = 0
        self.activity = 0

    # ---- what clients want from the world

    def tick(self):
        self.now += 1
        return self.now

    def note(self, conn, arrow, text):
        self.trace.append((self.now, conn, arrow, text))
        if text != "PINGREQ" and getattr(text, "kind", None) != PINGRESP:
            self.activity += 1

    def message(self, topic, payload):
        token = payload.partition(b":")[0].decode(errors="replace") if payload else "empty " + topic
        return self.messages.get(token)

    def routes_of(self, token):
        return [route for route in self.routes if route.message.token == token]

    def send(self, conn, packet):
        """Sends, or as much as the connection may before it is lost. Returns whether it was all."""
        n = len(packet) if conn.may_send is None else min(len(packet), conn.may_send)
        whole = n == len(packet)
        try:
            if whole:
                conn.stream.send(packet)
            elif n and isinstance(conn.stream, streams.WebSocket):  # the frame says how long it would have been
                frame = conn.stream.frame(2, packet)
                conn.stream.below.send(frame[:len(frame) - len(packet) + n])
            elif n:
                conn.stream.send(packet[:n])
        except OSError as error:
            raise Wrong("closed", f"{conn} was closed by the broker ({error})") from None
        if not whole:
            self.note(conn, "--", f"only {n} of {len(packet)} bytes")
        if conn.may_send is not None:
            conn.may_send -= n
            if conn.may_send == 0:
                self.lose(conn, conn.lose_how)
        return whole

    def lose(self, conn, how):
        """The connection is lost. A CONNECT that may have been accepted must have been dealt with before the next."""
        if not conn.live:
            return
        if conn.sent and not conn.accepted:
            how = "fin"
        conn.lost = self.tick()
        conn.how = how
        self.note(conn, "--", f"lost ({how})")
        if conn.buffer:
            conn.client.glimpse(conn.buffer)
        if how == "rst":
            self.forget(conn)
            conn.stream.reset()
        else:
            self.half_close(conn)

    def half_close(self, conn):
        if conn.state == "deaf":
            self.selector.register(self.socket_of(conn), selectors.EVENT_READ, conn)
        conn.state = "closing"
        try:
            self.socket_of(conn).shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the broker was faster; reading shows it

    def forget(self, conn):
        if conn.state not in ("deaf", "gone"):
            self.selector.unregister(self.socket_of(conn))
        conn.state = "gone"

    # ---- reading

    @staticmethod
    def socket_of(conn):
        stream = conn.stream
        return (stream.below if isinstance(stream, streams.WebSocket) else stream).sock

    def read(self, conn):
        """All there is."""
        sock = self.socket_of(conn)
        while conn.state not in ("deaf", "gone"):
            limits = [n for n in (conn.may_receive, conn.may_read) if n is not None and conn.live]
            room = min(limits, default=65536)
            if room == 0:
                self.reached(conn)
                continue
            try:
                sock.settimeout(0)
                data = conn.stream.recv(room)
            except OSError as error:
                if would_block(error):
                    return
                data = b""
            except streams.Closed:
                data = b""
            finally:
                sock.settimeout(streams.TIMEOUT)
            if not data:
                self.end_of(conn)
            elif conn.live:
                self.take(conn, data)

    def take(self, conn, data):
        for limit in ("may_receive", "may_read"):
            left = getattr(conn, limit)
            if left is not None:
                data = data[:left]  # a record or a frame may have more
        for limit in ("may_receive", "may_read"):
            left = getattr(conn, limit)
            if left is not None:
                setattr(conn, limit, left - len(data))
        conn.buffer += data
        self.parse(conn)

    def reached(self, conn):
        if conn.may_receive == 0:
            self.lose(conn, conn.lose_how)
        elif conn.may_read == 0:
            self.selector.unregister(self.socket_of(conn))
            conn.state = "deaf"
            self.note(conn, "--", "reads no more")

    def parse(self, conn):
        buffer = conn.buffer
        while conn.live and len(buffer) >= 2:
            size = shift = 0
            for at in range(1, 5):
                if at == len(buffer):
                    return
                size |= (buffer[at] & 127) << shift
                shift += 7
                if not buffer[at] & 128:
                    break
            else:
                raise Wrong("length", f"{conn} got a length of more than four bytes: {buffer[:8].hex(' ')}")
            end = at + 1 + size
            if len(buffer) < end:
                return
            packet = Packet(buffer[0] >> 4, buffer[0] & 15, bytes(buffer[at + 1:end]))
            del buffer[:end]
            conn.client.received(conn, packet)

    def end_of(self, conn):
        taken_over = any(later.sent for later in conn.client.conns[conn.number + 1:])
        if conn.live or (conn.state == "abandoned" and not taken_over):
            raise Wrong("closed", f"{conn} was closed by the broker")
        self.forget(conn)
        conn.stream.close()
        conn.ended = self.tick()
        conn.over = min(conn.over, conn.ended)
        self.note(conn, "--", "ended by the broker")

    def pump(self, until, what):
        while not until():
            ready = self.selector.select(self.patience)
            if not ready:
                raise Wrong("silent", f"nothing comes any more, while waiting for {what}")
            for key, _ in ready:
                self.read(key.data)

    def poll(self):
        for key, _ in self.selector.select(0):
            self.read(key.data)

    def is_live(self, client):
        return client.conn is not None and client.conn.live

    def quiet(self):
        """Every PINGREQ is answered, and every connection that has to end has ended."""
        for client in self.clients.values():
            for conn in client.conns:
                if conn.live and not (conn.accepted and conn.pongs == conn.pings):
                    return False
                if conn.state == "closing" or (conn.state == "abandoned" and conn.over != NEVER):
                    return False
        return True

    def settle(self):
        """Connections that are deaf, or that were to be lost some time, are lost now."""
        for client in self.clients.values():
            conn = client.conn
            if self.is_live(client) and (conn.state == "deaf" or conn.lose_how or conn.may_read is not None):
                self.lose(conn, conn.lose_how or "rst")
        patience = {client: client.prompt for client in self.clients.values()}
        for client in self.clients.values():
            self.do_prompt(client)
        quiet = rounds = 0
        while quiet < 2:
            rounds += 1
            if rounds > MOST_ROUNDS:
                raise Wrong("silent", f"it does not come to rest in {rounds} rounds")
            before, began = self.activity, self.tick()
            for client in filter(self.is_live, self.clients.values()):
                client.ping()
            self.pump(self.quiet, "the answer to PINGREQ, or the end of connections")
            quiet = 0 if self.activity != before else quiet + 1
            first = began if quiet < 2 else first
        for client in self.clients.values():
            client.prompt = patience[client]
            if self.is_live(client):
                client.check_answered()
                client.conn.settled.append(first)

    # ---- the whole

    def play(self):
        """Raises Wrong."""
        try:
            for words in self.steps:
                self.line(words)
            self.finish()
            Model(self.clients, self.routes, self.limits).check()
        finally:
            for client in self.clients.values():
                for conn in client.conns:
                    if conn.state != "gone":
                        conn.stream.reset()
            self.selector.close()

    def finish(self):
        """Everybody comes back for what is left; somebody new looks at what is retained."""
        self.settle()
        for client in [c for c in self.clients.values() if c.conns]:
            client.next_loss = None
            if not self.is_live(client):
                self.do_connect(client, "kept")
        self.settle()
        watch = self.clients["watch"] = Client(self, "watch", "tcp")
        self.do_connect(watch, "clean")
        self.do_subscribe(watch, "#:2", "$a/#:2")
        self.settle()

    # ---- lines

    def line(self, words):
        if words[0] in ("poll", "settle"):
            getattr(self, words[0])()
            return
        client = self.clients[words[0]]
        conn = client.conn
        action = getattr(self, "do_" + words[1])
        if words[1] in ("connect", "hold", "prompt", "lose") or (conn and conn.live):
            action(client, *words[2:])

    def new_message(self, client, topic, qos, words):
        """words: [retain] [SIZE]. None for a second empty one of a topic, as nobody could tell them apart."""
        size = int(words[-1]) if words and words[-1] != "retain" else 8
        token = f"m{len(self.messages) + 1}" if size else "empty " + topic
        if token in self.messages:
            return None
        payload = f"{token}:".encode().ljust(size, b".") if size else b""
        message = Message(token, topic, int(qos), "retain" in words, payload, client.name)
        self.messages[token] = message
        return message

    def do_connect(self, client, kind, *words):
        old = client.conn
        if old and old.sent and not old.accepted:
            self.decided(old)
        will = self.new_message(client, words[1], words[2], words[3:]) if words else None
        if old and old.live:
            old.how = "abandoned"
            if old.state == "deaf":
                self.selector.register(self.socket_of(old), selectors.EVENT_READ, old)
            if old.buffer:
                client.glimpse(old.buffer)
            old.state = "abandoned"
        last = client.last_try(None)
        again = last and last.clean and not last.accepted  # what was to be clean, is; or nobody knows what is whose
        conn = Conn(client, self.open_stream(client.transport), kind == "clean" or again, will, self.now)
        self.selector.register(self.socket_of(conn), selectors.EVENT_READ, conn)
        if will:
            self.routes.append(Route(will, will=conn))
        client.conns.append(conn)
        client.conn = conn
        client.owed.clear()
        if client.next_loss:
            self.arm(client)
        if conn.live:
            client.connect(rawmqtt.connect(client.name, conn.clean, 0,
                                           will and Will(will.topic, will.payload, will.qos, will.retain)))

    def decided(self, conn):
        """Its CONNECT is dealt with: two of one client that wait at a time could be taken in any order."""
        conn.may_read = None
        if conn.state == "deaf":
            self.lose(conn, "fin")
        self.pump(lambda: conn.accepted or conn.state == "gone", f"CONNACK, or the end, of {conn}")

    def do_disconnect(self, client):
        conn = client.conn
        index, tick = client.send(rawmqtt.packet(rawmqtt.DISCONNECT, 0), "DISCONNECT")
        conn.disconnect = index
        if index is None or not conn.live:
            return
        conn.lost = tick
        conn.how = "disconnect"
        self.half_close(conn)

    def do_publish(self, client, topic, qos, *words):
        message = self.new_message(client, topic, qos, words)
        if message:
            client.publish(message)

    def do_subscribe(self, client, *filters):
        pairs = (f.rpartition(":") for f in filters)
        client.request(SUBACK, [(f, int(q)) for f, _, q in pairs])

    def do_unsubscribe(self, client, *filters):
        client.request(UNSUBACK, [(f, None) for f in filters])

    def do_lose(self, client, how, when=None, n=0):
        """Without a connection it is meant for the next one."""
        client.next_loss = (how, when, int(n))
        if client.conn and client.conn.live:
            self.arm(client)

    def arm(self, client):
        how, when, n = client.next_loss
        client.next_loss = None
        conn = client.conn
        if when is None or (when == "sent" and n == 0):
            self.lose(conn, how)
            return
        conn.lose_how = how
        conn.may_send = n if when == "sent" else None
        conn.may_receive = n if when == "received" else None

    def do_deaf(self, client, n):
        client.conn.may_read = int(n)

    def do_hold(self, client):
        client.prompt = False

    def do_prompt(self, client):
        client.prompt = True
        client.answer_all()

    def do_wait(self, client):
        conn = client.conn
        client.ping()
        self.pump(lambda: conn.state != "up" or (conn.accepted and conn.pings == conn.pongs),
                  f"the answer to {conn}'s PINGREQ")

    def do_answer(self, client, kind, n=1):
        for _ in range(int(n)):
            if client.conn.live and client.conn.accepted:
                client.answer(KIND_OF[kind])


def clean_up(broker, names):
    """Takes back all that a script may have left in the broker."""
    clients = [broker.client() for _ in names]
    for client, name in zip(clients, names):
        client.send(rawmqtt.connect(name), rawmqtt.packet(rawmqtt.DISCONNECT, 0))
    for client in clients:
        client.connack()
        client.expect_closed()
        client.close()
    cleaner = broker.connect("cleaner")
    cleaner.send(*(rawmqtt.publish(topic, b"", 1, True, i) for i, topic in enumerate(TOPICS, 1)))
    for i in range(len(TOPICS)):
        cleaner.expect(rawmqtt.PUBACK, i + 1)
    cleaner.disconnect()
