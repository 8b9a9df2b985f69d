"""model: what the standard allows a broker to have made of all that the clients did. The whole history is judged at its
end.

For the broker, a session is a chain of events: CONNECT, SUBSCRIBE, UNSUBSCRIBE, the end of the connection, the next
CONNECT... Between two of them it is known which subscriptions there are and who is connected, so it is known what has to
become of a message that is routed there. When exactly things happen nobody can see from outside, only between which two
ticks: after the packet was sent, before its answer came. So the question is whether each message can be given a place
between two events of each session such that

  - every place fits the ticks, and what was received (or not) of the message fits the place;
  - messages that came one after the other (sent on one connection, or one known to be routed before the other was sent)
    have places in this order.

The second is only a lower bound for the place of each, so taking the first place that fits, in the order of sending, is
enough to find out. Retained messages are registers: what a SUBSCRIBE reads is something that can have been the last
written at that time.

A lost connection leaves open how many of its last packets were dealt with. Each possible number of SUBSCRIBEs,
UNSUBSCRIBEs and CONNECTs among them is tried (a world); one in which everything fits is enough. For a PUBLISH it is
simpler: if anybody has received the message, it was dealt with, and with it all that was sent before; if nobody has, it
need not have been.

Choices of bramble that the standard leaves open are marked CHOICE.
"""

from dataclasses import dataclass, field, replace

from client import NEVER, Wrong
from script import matches

DEFINITE, MAYBE, NOT = "definite", "maybe", "not"


@dataclass(eq=False)
class Event:
    """One step of a session, and what is true behind it until the next."""
    kind: str
    conn: object
    index: int         # of its packet on its connection
    start: float
    end: float
    session: int       # number of the session, 0: none
    online: object     # the Conn that has it
    subs: dict         # filter: QoS
    filters: list = field(default_factory=list)  # of SUBSCRIBE


@dataclass(eq=False)
class Read:
    """What a filter of a SUBSCRIBE has to bring of the retained messages on one topic."""
    event: Event
    topic: str
    qos: int
    filter: str


@dataclass(eq=False)
class Write:
    """A retained message is set, or (value None) cleared, at some time between start and end."""
    value: object
    start: float
    end: float
    sure: bool
    place: tuple = (None, 0)  # connection and index: writes of one connection are in order


class Model:
    def __init__(self, clients, routes, limits):
        self.clients = clients
        self.limits = limits
        self.messages = {route.message.token: route.message for route in routes}
        self.seen = {}  # token: first tick at which anybody had it
        for client in clients.values():
            for d in client.deliveries:
                self.seen[d.token] = min(d.tick, self.seen.get(d.token, NEVER))
        self.routes = {}
        for route in routes:
            self.routes.setdefault(route.message.token, []).append(route)
        self.learn()
        self.spans = {id(route): self.span(route) for route in routes}
        self.ordered = sorted(routes, key=lambda route: self.spans[id(route)][1])
        self.writes = self.all_writes()

    def check(self):
        for token, routes in self.routes.items():
            if token in self.seen and all(self.spans[id(route)][0] == NOT for route in routes):
                self.never_routed(token, routes)
        for client in self.clients.values():
            self.check_order(client)
            self.check_queue_limit(client)
            SessionModel(self, client).check()

    def never_routed(self, token, routes):
        if routes[0].will:
            raise Wrong("will", f"{token} is the will of {routes[0].will}, which never died without DISCONNECT")
        raise Wrong("cut", f"{token} was received, and was never sent whole")

    # ---- when, and whether at all

    def learn(self):
        """Who has received a message has shown that it was routed, and all that was sent before it dealt with."""
        for token, routes in self.routes.items():
            sends = [send for route in routes for send in route.sends]
            if token in self.seen and len(sends) == 1:
                conn, index, _ = sends[0]
                conn.marks.append((index + 1, self.seen[token]))
            if token in self.seen and routes[0].will:
                routes[0].will.marks.append((1, self.seen[token]))
        for client in self.clients.values():
            for conn in client.conns:
                self.tidy(conn)

    @staticmethod
    def tidy(conn):
        """Marks, rising in both."""
        best = []
        for processed, tick in sorted(conn.marks, key=lambda mark: (mark[1], -mark[0])):
            if not best or processed > best[-1][0]:
                best.append((processed, tick))
        conn.marks = best
        conn.processed = best[-1][0] if best else 0

    def end_of(self, conn, following=None):
        """Between which ticks the broker has ended the connection. following: the next CONNECT that it dealt with."""
        later = [c for c in conn.client.conns[conn.number + 1:] if c.processed] if following is None else [following]
        over = min([c.known(0) for c in later], default=NEVER)
        if conn.how == "abandoned":
            start = min([c.start for c in conn.client.conns[conn.number + 1:] if c.sent], default=NEVER)
            return (following.start if following else start), over
        # A WebSocket is closed as soon as the client's end is seen, which may be before all that came is dealt with.
        ended = None if conn.client.transport == "ws" else conn.ended
        return conn.lost if conn.lost is not None else NEVER, min(ended or NEVER, over)

    def span(self, route):
        """(whether it was routed, not before, not after)"""
        if route.will:
            return self.span_of_will(route.will)
        if not route.sends:
            return NOT, 0, 0
        start = route.sends[0][2]
        known = min(conn.known(index) for conn, index, _ in route.sends)
        last = route.sends[-1][0]
        seen = route.message.token in self.seen and len(self.routes[route.message.token]) == 1
        sure = seen or any(conn.processed > index for conn, index, _ in route.sends)
        return DEFINITE if sure else MAYBE, start, min(known, self.end_of(last)[1])

    def span_of_will(self, conn):
        start, end = self.end_of(conn)
        if not conn.sent or start == NEVER:
            return NOT, 0, 0
        if conn.disconnect is not None:
            following = [c for c in conn.client.conns[conn.number + 1:] if c.sent]
            # Who comes again while DISCONNECT waits for its turn takes over; the end of a WebSocket does not say it was read.
            early = following and (conn.client.transport == "ws" or not conn.ended or following[0].start < conn.ended)
            orderly = conn.how == "disconnect" and conn.ended and not early
            return (NOT if orderly else MAYBE), start, end
        return DEFINITE if conn.processed and end < NEVER else MAYBE, start, end

    # ---- what needs no chain

    def check_order(self, client):
        """[MQTT-4.6.0-6]: of one publisher, topic and QoS in the order of sending. A message that was sent again may be
        in any of its places."""
        latest, known = {}, set()
        for d in client.deliveries:
            message = self.messages[d.token]
            sends = [tick for route in self.routes[d.token] for _, _, tick in route.sends]
            if d.retain or not sends or d.token in known:
                continue
            known.add(d.token)
            stream = (message.who, message.topic, d.qos)
            before = latest.get(stream)
            if before and before[0] > sends[-1]:
                raise Wrong("order", f"{client.name} got {message} after {before[1]}")
            if not before or sends[0] > before[0]:
                latest[stream] = sends[0], message

    def check_queue_limit(self, client):
        """Not more may have waited for an offline session than its limit and, from before, the window."""
        if not self.limits.max_queued:
            return
        for conn in client.conns[1:]:
            waited = [d.token for d in client.deliveries if d.conn is conn and d.qos and not d.retain
                      and all(self.spans[id(route)][2] < conn.start for route in self.routes[d.token])]
            most = self.limits.max_queued + 2 * self.limits.max_inflight
            if len(waited) > most:
                raise Wrong("limit", f"{conn} got {len(waited)} messages that had waited, and {most} may wait")

    # ---- retained messages

    def all_writes(self):
        writes = {}
        for route in self.ordered:
            state, start, end = self.spans[id(route)]
            if route.message.retain and state != NOT:
                value = route.message if route.message.payload else None
                place = (route.sends[0][0], route.sends[0][1]) if len(route.sends) == 1 else (None, 0)
                writes.setdefault(route.message.topic, []).append(Write(value, start, end, state == DEFINITE, place))
        for client in self.clients.values():  # what was read was there: as good as written once more
            for d in client.deliveries:
                if d.retain:
                    message = self.messages[d.token]
                    started = [r.tick for r in d.conn.requests if r.tick < d.tick
                               and any(q is not None and matches(f, message.topic) for f, q in r.filters)]
                    if len(started) == 1 and d.conn.present is False:
                        writes.setdefault(message.topic, []).append(Write(message, started[0], d.tick, True))
        return writes

    def values(self, topic, start, end):
        """What can have been retained on a topic at some time between two ticks."""
        writes = [Write(None, -1, 0, True), *self.writes.get(topic, [])]
        found = []
        for write in writes:
            if write.start < end and not any(self.hides(other, write, start) for other in writes):
                found.append(write.value)
        return found

    @staticmethod
    def hides(other, write, start):
        """Whether other was surely written behind write, and before start."""
        if other is write or not other.sure or other.end >= start:
            return False
        same = other.place[0] is not None and other.place[0] is write.place[0]
        return other.place[1] > write.place[1] if same else write.end < other.start


class SessionModel:
    """The check of what one client id received."""

    def __init__(self, model, client):
        self.model = model
        self.client = client
        self.limits = model.limits
        self.live, self.retained = {}, []
        for d in client.deliveries:
            if d.retain:
                self.retained.append(d)
            else:
                self.live.setdefault(d.token, []).append(d)

    def check(self):
        best = None
        for chain in self.worlds():
            problem = self.judge(chain)
            if problem is None:
                return
            if best is None or problem[0] > best[0]:
                best = problem
        if best is None:
            raise Wrong("present", f"{self.client.name}: no course of events explains what its CONNACKs said of sessions: "
                        + ", ".join(f"{c}: {'clean' if c.clean else 'kept'} {'no CONNACK' if c.present is None else c.present}"
                                    for c in self.client.conns))
        raise Wrong(best[1], best[2])

    # ---- chains

    def worlds(self):
        conns = [c for c in self.client.conns if c.sent]

        def choices(conn):
            """The packets of a chain that may be the last one that was dealt with; most first."""
            all_of = [0] + [r.index for r in conn.requests]
            return [last for last in reversed(all_of) if last >= conn.processed] + \
                [max((i for i in all_of if i < conn.processed), default=None)]

        def go(number, chain):
            if number == len(conns):
                yield self.finished(chain)
                return
            for last in choices(conns[number]):
                longer = chain if last is None else self.extended(chain, conns[number], last)
                if longer is not None:
                    yield from go(number + 1, longer)

        yield from go(0, [Event("start", None, 0, -1, -1, 0, None, {})])

    def ended(self, chain, following):
        """The chain with the end of its last connection."""
        state = chain[-1]
        if not state.online:
            return chain
        start, end = self.model.end_of(state.online, following)
        if start == NEVER:
            return chain
        gone = state.online.clean
        return [*chain, Event("end", state.online, 0, start, end, 0 if gone else state.session, None,
                              {} if gone else state.subs)]

    def finished(self, chain):
        end = NEVER
        done = []
        for event in reversed(self.ended(chain, None)):  # what comes before something is over when that is over
            end = min(end, event.end)
            done.append(replace(event, end=end))
        return done[::-1]

    def extended(self, chain, conn, last):
        """The chain with CONNECT, SUBSCRIBE and UNSUBSCRIBE of one more connection, up to the packet `last`; None when
        CONNACK said something else of the session."""
        chain = self.ended(chain, conn)
        state = chain[-1]
        kept = state.session and not conn.clean
        if conn.present is not None and conn.present != bool(kept):
            return None
        over = self.model.end_of(conn)[1]
        number = state.session if kept else 1 + max(event.session for event in chain)
        subs = dict(state.subs) if kept else {}
        chain = [*chain, Event("connect", conn, 0, conn.start, min(conn.known(0), over), number, conn, subs)]
        for request in conn.requests:
            if request.index > last:
                break
            subs = dict(subs)
            asks = request.filters[0][1] is not None
            for filter_, qos in request.filters:
                if asks:
                    subs[filter_] = qos
                else:
                    subs.pop(filter_, None)
            chain.append(Event("subscribe" if asks else "unsubscribe", conn, request.index, request.tick,
                               min(conn.known(request.index), over), number, conn, subs, request.filters if asks else []))
        return chain

    # ---- judging one world: None, or (how far it got, kind, text)

    def judge(self, chain):
        places, done = {}, []
        for number, route in enumerate(self.model.ordered):
            state, start, end = self.model.spans[id(route)]
            token = route.message.token
            several = len(self.model.routes[token]) > 1
            got = self.live.get(token, [])
            if state == NOT or several or (state == MAYBE and not got):
                continue
            if len(got) > 1:
                return number, "duplicate", f"{self.client.name} got {route.message} {len(got)} times"
            lowest = max((places[id(r)] for r in done if self.precedes(r, route)), default=0)
            fits = self.fitting(chain, route, got[0] if got else None)
            place = next((g for g in fits if g >= lowest), None)
            if place is None:
                return (number, *self.explain(chain, route, got, lowest, fits))
            places[id(route)] = place
            done.append(route)
        number = len(self.model.ordered)
        for token, routes in self.model.routes.items():
            problem = self.judge_several(chain, token, routes) if len(routes) > 1 else None
            if problem:
                return (number, *problem)
        problem = self.judge_retained(chain)
        return (number + 1, *problem) if problem else None

    def precedes(self, a, b):
        """Whether a was surely routed before b."""
        if self.model.spans[id(a)][2] < self.model.spans[id(b)][1]:
            return True
        if len(a.sends) == 1 and len(b.sends) == 1:
            (conn, index, _), (other, later, _) = a.sends[0], b.sends[0]
            return conn is other and index < later
        return False

    def possible(self, chain, route):
        """Places behind events of the chain that fit its time."""
        _, start, end = self.model.spans[id(route)]
        for g, event in enumerate(chain):
            following = chain[g + 1] if g + 1 < len(chain) else None
            if event.start < end and (following is None or start < following.end):
                if not self.out_of_turn(event, following, route):
                    yield g

    def out_of_turn(self, event, following, route):
        """On its own connection a client knows the order of its packets."""
        if len(route.sends) != 1 or route.sends[0][0].client is not self.client:
            return False
        conn, index, _ = route.sends[0]
        if event.online is not conn:
            return True
        return event.index > index or (following is not None and following.conn is conn
                                       and following.kind != "end" and following.index < index)

    def due(self, event, message):
        """The QoS at which a message that is routed behind this event has to be delivered, or None."""
        found = [qos for filter_, qos in event.subs.items() if matches(filter_, message.topic)]
        if not found:
            return None
        qos = min(message.qos, max(found))  # CHOICE: one message for several subscriptions [MQTT-3.3.5-1]
        return None if qos == 0 and not event.online and not self.limits.queue_qos0 else qos

    def fitting(self, chain, route, got):
        return [g for g in self.possible(chain, route) if self.fits(chain, g, route, got)]

    def fits(self, chain, g, route, got):
        event = chain[g]
        qos = self.due(event, route.message)
        if got is None:
            return qos is None or self.excused(chain, g, route, qos)
        if qos != got.qos or self.session_of(chain, got.conn) != event.session:
            return False
        if qos == 0 and not self.limits.queue_qos0:
            return got.conn is event.online
        return event.online is None or got.conn.number >= event.online.number

    @staticmethod
    def session_of(chain, conn):
        return next((event.session for event in chain if event.kind == "connect" and event.conn is conn), -1)

    def excused(self, chain, g, route, qos):
        """Whether a message that was due need not have come: nobody was there until all was quiet, or a limit."""
        event = chain[g]
        tick = self.model.spans[id(route)][2]
        if qos == 0:
            later = (e.conn for e in chain[g:] if e.kind == "connect" and e.session == event.session)
            taker = event.online or next(later, None)
            return not (taker and self.was_settled(taker, tick))
        there = {id(e.conn): e.conn for e in chain if e.kind == "connect" and e.session == event.session}
        if not any(self.was_settled(conn, tick) for conn in there.values()):
            return True
        return self.queue_was_full(route)

    @staticmethod
    def was_settled(conn, tick):
        return any(settled >= tick for settled in conn.settled)

    def queue_was_full(self, route):
        """Whether so many others may have waited when it came: it is the last that is dropped."""
        if not self.limits.max_queued:
            return False
        _, start, end = self.model.spans[id(route)]
        before = {r.message.token for r in self.model.ordered
                  if r is not route and self.model.spans[id(r)][0] != NOT and self.model.spans[id(r)][1] < end}
        waited = sum(token not in self.live for token in before)
        waited += sum(d.tick > start for d in self.client.deliveries if d.retain or d.token in before)
        return waited >= self.limits.max_queued

    def explain(self, chain, route, got, lowest, fits):
        message, name = route.message, self.client.name
        dues = {self.due(chain[g], message) for g in self.possible(chain, route)}
        if fits and not got:
            return "missing", f"{name} did not get {message}, but what was routed before"
        if fits:
            return "order", f"{got[0].conn} got {message} as if it was routed before what came before it"
        if not got:
            return "missing", f"{name} did not get {message}"
        if dues == {None}:
            return "unexpected", f"{got[0].conn} got {message}, which matches none of its subscriptions then"
        if got[0].qos not in dues:
            return "qos", f"{got[0].conn} got {message} at QoS {got[0].qos}, due at {sorted(dues - {None})}"
        return "unexpected", f"{got[0].conn} got {message}, which was for another session or connection"

    def judge_several(self, chain, token, routes):
        """A QoS 1 message that was sent again may be routed each time."""
        got = self.live.get(token, [])
        least = most = 0
        for route in routes:
            state = self.model.spans[id(route)][0]
            places = list(self.possible(chain, route)) if state != NOT else []
            dues = [self.due(chain[g], route.message) for g in places]
            most += any(qos is not None for qos in dues)
            least += state == DEFINITE and not any(self.fits(chain, g, route, None) for g in places)
        message = routes[0].message
        if len(got) < least:
            return "missing", f"{self.client.name} got {message} {len(got)} times, at least {least} are due"
        if len(got) > most:
            return "duplicate", f"{self.client.name} got {message} {len(got)} times, at most {most} are due"
        return None

    # ---- retained messages

    def judge_retained(self, chain):
        reads = [Read(event, topic, qos, filter_) for event in chain for filter_, qos in event.filters
                 for topic in sorted({m.topic for m in self.model.messages.values() if m.retain})
                 if matches(filter_, topic)]
        for topic in {read.topic for read in reads} | {self.model.messages[d.token].topic for d in self.retained}:
            of_topic = [d for d in self.retained if self.model.messages[d.token].topic == topic]
            wanted = [read for read in reads if read.topic == topic]
            problem = self.match(chain, topic, of_topic, wanted)
            if problem:
                return problem
        return None

    def match(self, chain, topic, got, reads):
        """Each that came belongs to another read; the reads left over may bring nothing."""
        def go(at, free):
            if at == len(got):
                return all(self.may_be_silent(chain, read) for read in free)
            alike = {(id(read.event), read.qos): i for i, read in enumerate(free) if self.answers(chain, got[at], read)}
            return any(go(at + 1, free[:i] + free[i + 1:]) for i in alike.values())

        if go(0, reads):
            return None
        name = self.client.name
        came = ", ".join(f"{d.token} at QoS {d.qos} on {d.conn}" for d in got) or "nothing"
        asked = "; ".join(f"{r.event.conn} subscribed to {r.filter}:{r.qos}, when there was "
                          f"{' or '.join(v.token if v else 'none' for v in self.values_of(chain, r))}" for r in reads)
        return "retained", f"{name} got as retained on {topic}: {came}. It is to be: {asked or 'nothing'}"

    def answers(self, chain, got, read):
        message = self.model.messages[got.token]
        if got.tick < read.event.start or got.qos != min(message.qos, read.qos):
            return False
        if self.session_of(chain, got.conn) != read.event.session or got.conn.number < read.event.conn.number:
            return False
        return message in self.model.values(read.topic, read.event.start, got.tick)

    def end_of_read(self, chain, read):
        """By when its messages must have come."""
        conns = {id(e.conn): e.conn for e in chain if e.kind == "connect" and e.session == read.event.session}
        ticks = [t for conn in conns.values() for t in conn.settled if t >= read.event.end]
        return min(ticks, default=NEVER)

    def values_of(self, chain, read):
        return self.model.values(read.topic, read.event.start, self.end_of_read(chain, read))

    def may_be_silent(self, chain, read):
        for value in self.values_of(chain, read):
            if value is None:
                return True
            if min(value.qos, read.qos) == 0 and not self.was_settled(read.event.conn, read.event.end):
                return True
        if self.end_of_read(chain, read) == NEVER:
            return True
        return any(e.kind == "unsubscribe" and e.session == read.event.session and read.filter not in e.subs
                   and e.start < self.end_of_read(chain, read) for e in chain[chain.index(read.event):])
