#!/usr/bin/env python3
"""checker: judges a broker by what its clients sent and saw, and by nothing else.

    python3 test/faults/checker.py LOG...          # exit status 1 when anything is wrong

The log has one line for each event, in the order in which they happened (all clients write to the same log, so this
is one clock): a number, seconds, who, a sign and what.

    17 0.103211 p1 > PUBLISH q1 m3 p/1/a 1.17      > the client sends; dup and retain stand at the end of a PUBLISH
    18 0.140007 p1 < PUBACK m3                     < the client sees
    19 0.140100 p1 > CONNECT kept                  kept: CleanSession 0; clean: 1; with a will: kept will q1 w/a p1.w3
    20 0.141000 p1 < CONNACK resumed               resumed: session present; new: not
    21 0.150000 s1 > SUBSCRIBE m1 p/# q2
    22 0.150400 s1 < SUBACK m1 q2
    23 0.200000 s1 - lost                          - neither: the connection has ended,
    24 0.210000 s1 - looked                        what is retained for its SUBSCRIBE has come,
    25 0.300000 all - drained                      everybody is there, and whatever was under way has come to an end;
    26 0.300000 broker - killed                    other words say something to the reader only

A payload is a word that is never used twice on a topic; "-" is the empty one.

What must hold, each a kind of Problem:

    missing       acknowledged (PUBACK; PUBREC or PUBCOMP), and not come to a client that had subscribed before
    duplicate     of QoS 2, come twice
    order         first arrivals of one publisher, topic and QoS in another order than they were sent
    retained      what is retained is neither the last one acknowledged nor one sent after that
    id            an identifier that is in use stands for another message
    pubrel        PUBREL for what the client has not answered with PUBREC
    dup           a QoS 2 PUBLISH is sent again without DUP
    unknown       nobody has sent this
    unasked       a message on a topic that the client has not subscribed to, or not any more
    session       a kept session is not there any more
    answer        an acknowledgement of something that was not sent
    unanswered    everything has come to an end, and this was not acknowledged
    log           this is not a log as above

The hard part is to be sure: nothing is reported that an honest broker could have done. So a message counts as owed
only to subscribers whose SUBACK came before it was first sent, and what is sent in parallel to a look at what is
retained may be in it or not. The will of a kept session is acknowledged when its connection, which had a CONNACK, is lost
without a DISCONNECT.
"""

import sys
from collections import Counter, defaultdict

MOST = 20  # problems that are written out


class Problem:
    def __init__(self, kind, client, topic, payload, text, *lines):
        self.kind, self.client, self.topic, self.payload, self.text = kind, client, topic, payload, text
        self.lines = [line for line in lines if line]

    def __str__(self):
        about = f"{self.kind}: client {self.client}, topic {self.topic}, payload {self.payload}: {self.text}"
        return "\n".join([about, *("    " + line for line in self.lines)])


def matches(pattern, topic):
    pattern, topic = pattern.split("/"), topic.split("/")
    for at, level in enumerate(pattern):
        if level == "#":
            return True
        if at >= len(topic) or level not in ("+", topic[at]):
            return False
    return len(pattern) == len(topic)


class Line(str):
    """One line of the log; number is its place."""
    number = 0


class Message:
    """What one client published: sent and again and again; of retained ones the last time counts."""
    __slots__ = ("client", "topic", "payload", "qos", "retain", "first", "last", "acked", "anew")

    def __init__(self, client, topic, payload, qos, retain, line):
        self.client, self.topic, self.payload, self.qos, self.retain = client, topic, payload, qos, retain
        self.first = self.last = line
        self.acked = None
        self.anew = False  # its publisher had lost its session, and published it once more as another message


class Client:
    def __init__(self, name):
        self.name = name
        self.kept = False
        self.keeps = None        # line by which its session must be kept: SUBACK or PUBREC
        self.will = None         # Message, from CONNECT until DISCONNECT or the end
        self.up = False          # CONNACK came
        # as publisher
        self.sent = {}           # id: Message, from PUBLISH until its exchange has ended
        self.unanswered = {}     # (kind of the answer, id): how many may come
        self.stage = {}          # id: the answer that is due
        # as subscriber
        self.asking = {}         # id of a SUBSCRIBE or UNSUBSCRIBE: (kind, filters, line)
        self.filters = {}        # filter: (QoS, line of the SUBACK)
        self.ever = {}           # filter that it asked for at any time: [[line of an UNSUBACK, line of the SUBSCRIBE after it]]
        self.arrived = {}        # (topic, payload): (line, QoS)
        self.owed = {}           # (topic, payload): (Message, line of the ack)
        self.latest = {}         # (publisher, topic, its QoS, QoS): (Message, line)
        self.held = {}           # id of QoS 2: [topic, payload, line, line of our PUBREC]
        self.completed = {}      # id: line of the PUBREL, which comes again when our PUBCOMP got lost
        self.open = {}           # id of QoS 1 on this connection, not acknowledged by us: (topic, payload, line)
        self.looking = None      # line of the SUBSCRIBE since which retained messages are looked at
        self.seen = defaultdict(list)  # topic: lines and messages that came for it since
        self.cache = {}          # topic: filters that match it


class Checker:
    def __init__(self):
        self.problems = []
        self.clients = {}
        self.messages = {}                   # (topic, payload): Message
        self.retained = defaultdict(list)    # topic: Messages with RETAIN, in the order of their first sending
        self.counts = Counter()
        self.number = 0

    # ---- reading

    def feed(self, text):
        self.number += 1
        line = Line(text.rstrip("\n"))
        line.number = self.number
        words = line.split(" ")
        try:
            _, _, name, sign, what, *rest = words
            method = getattr(self, {">": "sends_", "<": "sees_", "-": "does_"}[sign] + what, None)
            if method:
                method(self.client(name), rest, line)
            elif sign != "-":
                raise ValueError(what)
        except (ValueError, IndexError, KeyError) as error:
            self.problem("log", words[2] if len(words) > 2 else "?", "-", "-", f"cannot be read ({error!r})", line)

    def read(self, lines):
        for line in lines:
            self.feed(line)
        return self

    def client(self, name):
        found = self.clients.get(name)
        if not found:
            found = self.clients[name] = Client(name)
        return found

    def problem(self, kind, client, topic, payload, text, *lines):
        self.problems.append(Problem(kind, client, topic, payload, text, *lines))
        self.counts["problems"] += 1

    @property
    def kinds(self):
        return {problem.kind for problem in self.problems}

    # ---- connections

    def sends_CONNECT(self, client, rest, line):
        client.kept = rest[0] == "kept"
        if not client.kept:
            self.forget(client)
            client.sent, client.stage = {}, {}
        self.breaks(client)
        if len(rest) > 1:
            _, qos, topic, payload = rest[1:]
            client.will = self.messages[topic, payload] = Message(client.name, topic, payload, int(qos[1:]), False, line)

    def sees_CONNACK(self, client, rest, line):
        client.up = True
        if rest[0] == "new":
            if client.kept and client.keeps:
                self.problem("session", client.name, "-", "-", "its session is gone", client.keeps, line)
            self.forget(client)
        elif not client.kept:
            self.problem("session", client.name, "-", "-", "a session is present for a clean one", line)

    def forget(self, client):
        """Its session is another one now."""
        client.keeps = None
        client.filters, client.asking, client.owed, client.held, client.completed = {}, {}, {}, {}, {}
        client.cache = {}

    def breaks(self, client):
        client.open, client.asking, client.looking = {}, {}, None
        client.unanswered = {}
        client.will, client.up = None, False

    def does_lost(self, client, _rest, line):
        if client.will and client.up and client.kept and client.will.qos:
            self.counts["wills"] += 1
            self.acknowledged(client.will, line)
        self.breaks(client)

    def sends_DISCONNECT(self, client, rest, line):
        client.will = None

    def sends_PINGREQ(self, client, rest, line):
        pass

    def sees_PINGRESP(self, client, rest, line):
        pass

    # ---- subscriptions

    def sends_SUBSCRIBE(self, client, rest, line):
        wanted = [(rest[i], int(rest[i + 1][1:])) for i in range(1, len(rest), 2)]
        client.asking[rest[0]] = (wanted, line)
        for pattern, _ in wanted:
            for gap in client.ever.setdefault(pattern, []):
                gap[1] = gap[1] or line
        client.cache = {}
        client.looking, client.seen = line, defaultdict(list)

    def sees_SUBACK(self, client, rest, line):
        if rest[0] not in client.asking:
            self.problem("answer", client.name, "-", "-", "SUBACK for nothing", line)
            return
        wanted, _ = client.asking.pop(rest[0])
        for (pattern, _), granted in zip(wanted, rest[1:]):
            before = client.filters.get(pattern)
            client.filters[pattern] = (int(granted[1:]), before[1] if before and before[0] == int(granted[1:]) else line)
        client.cache = {}
        if client.kept:
            client.keeps = client.keeps or line

    def sends_UNSUBSCRIBE(self, client, rest, line):
        client.asking[rest[0]] = (rest[1:], line)
        for pattern in rest[1:]:
            client.filters.pop(pattern, None)
        client.cache = {}
        for key in [k for k in client.owed if not self.subscribed(client, k[0])]:
            del client.owed[key]  # the broker may or may not go on with what it has

    def sees_UNSUBACK(self, client, rest, line):
        if rest[0] not in client.asking:
            self.problem("answer", client.name, "-", "-", "UNSUBACK for nothing", line)
            return
        for pattern in client.asking.pop(rest[0])[0]:
            client.ever[pattern].append([line, None])

    @staticmethod
    def gap(client, message):
        """Whether nothing that this client asked for matches the message, and the lines since when: it was sent when it had
        unsubscribed, and not again when it had subscribed once more."""
        since = []
        for pattern, gaps in client.ever.items():
            if matches(pattern, message.topic):
                found = [start for start, end in gaps if start.number < message.first.number
                         and (not end or message.last.number < end.number)]
                if not found:
                    return None
                since.append(found[0])
        return since

    def subscribed(self, client, topic):
        """[(QoS, line of the SUBACK)]"""
        found = client.cache.get(topic)
        if found is None:
            found = client.cache[topic] = [known for f, known in client.filters.items() if matches(f, topic)]
        return found

    # ---- what is published

    def sends_PUBLISH(self, client, rest, line):
        if rest[0] == "q0":
            topic, payload, *flags = rest[1:]
            mid, qos = None, 0
        else:
            mid, topic, payload, *flags = rest[1:]
            qos = int(rest[0][1:])
        key = (topic, payload)
        if payload == "-":
            key = (topic, f"-{self.number}") if "dup" not in flags else self.cleared(topic)
        message = self.messages.get(key)
        if message and message.client == client.name:
            message.last = line
            message.anew = message.anew or "dup" not in flags
        else:
            message = self.messages[key] = Message(client.name, topic, payload, qos, "retain" in flags, line)
            self.counts["published"] += 1
            if message.retain:
                self.retained[topic].append(message)
        if mid:
            client.sent[mid] = message
            client.stage[mid] = "PUBACK" if qos == 1 else "PUBREC"
            self.expects(client, "PUBACK" if qos == 1 else "PUBREC", mid)

    def cleared(self, topic):
        """The key of the last time that somebody sent an empty payload: it is sent again."""
        return next(k for k, m in reversed(self.messages.items()) if m.topic == topic and m.payload == "-")

    @staticmethod
    def expects(client, kind, mid):
        client.unanswered[kind, mid] = client.unanswered.get((kind, mid), 0) + 1

    def answers(self, client, kind, mid, line):
        """Whether this answer may come."""
        left = client.unanswered.get((kind, mid), 0)
        if not left or mid not in client.sent:
            message = client.sent.get(mid)
            self.problem("answer", client.name, message.topic if message else "-", message.payload if message else "-",
                         f"{kind} {mid} for what was not sent, or once more than that", message and message.last, line)
            return False
        client.unanswered[kind, mid] = left - 1
        return True

    def sees_PUBACK(self, client, rest, line):
        if self.answers(client, "PUBACK", rest[0], line):
            self.acknowledged(client.sent[rest[0]], line)
            client.stage.pop(rest[0], None)

    def sees_PUBREC(self, client, rest, line):
        if self.answers(client, "PUBREC", rest[0], line):
            self.acknowledged(client.sent[rest[0]], line)
            if client.stage.get(rest[0]) == "PUBREC":
                client.stage[rest[0]] = "PUBREL"
            if client.kept:
                client.keeps = client.keeps or line

    def sends_PUBREL(self, client, rest, line):
        client.stage[rest[0]] = "PUBCOMP"
        self.expects(client, "PUBCOMP", rest[0])

    def sees_PUBCOMP(self, client, rest, line):
        if self.answers(client, "PUBCOMP", rest[0], line):
            self.acknowledged(client.sent[rest[0]], line)
            client.stage.pop(rest[0], None)

    def acknowledged(self, message, line):
        if message.acked:
            return
        message.acked = line
        self.counts["acknowledged"] += 1
        key = (message.topic, message.payload)
        if message.payload == "-":
            return
        for client in self.clients.values():
            if client.kept and key not in client.arrived and any(
                    min(qos, message.qos) > 0 and since.number < message.first.number
                    for qos, since in self.subscribed(client, message.topic)):
                client.owed[key] = (message, line)

    # ---- what arrives

    def sees_PUBLISH(self, client, rest, line):
        if rest[0] == "q0":
            topic, payload, *flags = rest[1:]
            mid, qos = None, 0
        else:
            mid, topic, payload, *flags = rest[1:]
            qos = int(rest[0][1:])
        self.counts["received"] += 1
        if mid and not self.identifies(client, mid, qos, topic, payload, flags, line):
            return
        message = self.messages.get((topic, payload))
        if payload != "-" and not message:
            self.problem("unknown", client.name, topic, payload, "nobody has sent this", line)
            return
        gap = self.gap(client, message) if message else None
        if gap is not None:
            self.problem("unasked", client.name, topic, payload, "it is not subscribed to this", *gap, message.first, line)
            return
        client.seen[topic].append((message, "retain" in flags, line))
        if message and "retain" not in flags:
            self.arrives(client, message, qos, line)

    def identifies(self, client, mid, qos, topic, payload, flags, line):
        """Notes whose identifier this is. Returns whether it is an arrival, not a QoS 2 message that is sent again."""
        held = client.held.get(mid)
        other = client.open.get(mid) or held
        if other and (other[0], other[1]) != (topic, payload):
            self.problem("id", client.name, topic, payload, f"{mid} is in use for {other[0]} {other[1]}", other[2], line)
            client.held.pop(mid, None)
            held = None
        if qos == 1:
            client.open[mid] = (topic, payload, line)
            return True
        if held:
            if "dup" not in flags:
                self.problem("dup", client.name, topic, payload, "sent again without DUP", held[2], line)
            self.counts["resent"] += 1
            return False
        client.held[mid] = [topic, payload, line, None]
        client.completed.pop(mid, None)
        return True

    def arrives(self, client, message, qos, line):
        key = (message.topic, message.payload)
        before = client.arrived.get(key)
        if before:
            if qos == 2 and before[1] == 2 and not message.anew:
                self.problem("duplicate", client.name, *key, "it came before", before[0], line)
            self.counts["repeated"] += 1
            return
        client.arrived[key] = (line, qos)
        client.owed.pop(key, None)
        self.counts["arrived"] += 1
        if not any(since.number < message.first.number for _, since in self.subscribed(client, message.topic)):
            return  # it may have been routed before this client was there, and again when it was sent again
        stream = (message.client, message.topic, message.qos, qos)
        latest = client.latest.get(stream)
        if latest and latest[0].first.number > message.first.number:
            self.problem("order", client.name, *key, f"{latest[0].payload}, which was sent later, came before",
                         message.first, latest[0].first, latest[1], line)
        else:
            client.latest[stream] = (message, line)

    def sends_PUBACK(self, client, rest, line):
        client.open.pop(rest[0], None)

    def sends_PUBREC(self, client, rest, line):
        if rest[0] in client.held:
            client.held[rest[0]][3] = line

    def sees_PUBREL(self, client, rest, line):
        mid = rest[0]
        held = client.held.get(mid)
        if held and not held[3]:
            self.problem("pubrel", client.name, held[0], held[1], f"PUBREL {mid} before PUBREC", held[2], line)
        elif not held and mid not in client.completed:
            self.problem("pubrel", client.name, "-", "-", f"PUBREL {mid} for nothing", line)
        client.held.pop(mid, None)
        client.completed[mid] = line

    def sends_PUBCOMP(self, client, rest, line):
        pass

    # ---- from time to time

    def does_looked(self, client, _rest, line):
        """What is retained, as this client sees it since its SUBSCRIBE."""
        if not client.looking:
            return
        for topic, messages in self.retained.items():
            if any(matches(f, topic) for f in client.filters):
                self.judge_retained(client, topic, messages, line)
                self.counts["looks"] += 1
        client.looking = None

    def judge_retained(self, client, topic, messages, line):
        acked = [m for m in messages if m.acked and m.acked.number < client.looking.number]
        last = max(acked, key=lambda m: m.first.number, default=None)
        seen = client.seen.get(topic, [])
        kept = [(message, at) for message, retain, at in seen if retain]
        for message, at in kept:
            if message and last and message is not last and message.last.number < last.first.number:
                self.problem("retained", client.name, topic, message.payload,
                             f"this is retained, and {last.payload} was sent later and acknowledged", message.last, last.first, last.acked, at)
        if not seen and last and last.payload != "-":
            cleared = any(m.payload == "-" and m.last.number > last.first.number for m in messages)
            if not cleared:
                self.problem("retained", client.name, topic, last.payload, "nothing is retained", last.first, last.acked, line)

    def does_drained(self, _client, _rest, line):
        for client in self.clients.values():
            for key, (message, acked) in client.owed.items():
                self.problem("missing", client.name, *key, "acknowledged, and it never came", message.first, acked)
            client.owed = {}
            for mid, stage in client.stage.items():
                message = client.sent[mid]
                self.problem("unanswered", client.name, message.topic, message.payload, f"{stage} {mid} never came",
                             message.last, line)
            client.stage = {}
        self.counts["drained"] += 1

    def does_killed(self, _client, _rest, _line):
        self.counts["kills"] += 1
        self.counts["owed at kills"] += sum(len(c.owed) for c in self.clients.values())

    # ---- the verdict

    def report(self):
        out = [str(problem) for problem in self.problems[:MOST]]
        if len(self.problems) > MOST:
            left = Counter(problem.kind for problem in self.problems[MOST:])
            out.append("and " + ", ".join(f"{n} more of {kind}" for kind, n in left.items()))
        return "\n".join(out)

    def summary(self):
        names = ("published", "acknowledged", "arrived", "repeated", "resent", "looks", "wills", "kills", "owed at kills", "drained",
                 "problems")
        return f"{self.number} events: " + ", ".join(f"{name} {self.counts[name]}" for name in names)


def main(paths):
    wrong = False
    for path in paths:
        with open(path, encoding="utf-8") as file:
            checker = Checker().read(file)
        if checker.problems:
            print(checker.report())
        print(f"{path}: {checker.summary()}")
        wrong = wrong or bool(checker.problems)
    return 1 if wrong or not paths else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
