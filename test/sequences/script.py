"""script: what clients do in one sequence, as lines of text, and the generator that makes such lines from a seed.

    config max_inflight_messages 2       of the daemon; these two kinds of line come first
    client c1 tls                        not over tcp, but this transport
    c1 connect clean|kept [will TOPIC QOS [retain] [SIZE]]
                                         a client that is connected takes over from itself: the older connection is
                                         left open and never used or read by the client again
    c1 subscribe FILTER:QOS...
    c1 unsubscribe FILTER...
    c1 publish TOPIC QOS [retain] [SIZE] SIZE of the payload; 0 is an empty one
    c1 disconnect
    c1 lose fin|rst [sent N|received N]  loses its connection: now, or when N more bytes are sent (so in the middle of
                                         whatever it sends then), or received. fin: what was sent arrives; rst: it may not
    c1 deaf N                            reads N more bytes and then no more, until its connection is lost or taken over
    c1 hold, c1 prompt                   acknowledgements it owes are held back, or sent at once (as at the start)
    c1 answer KIND [N]                   sends N (1) of those held back; KIND is puback, pubrec, pubrel or pubcomp
    c1 wait                              until the broker has dealt with all that it has sent so far
    poll                                 everybody reads what there is
    settle                               everybody answers all it owes, until nothing is on its way any more

Nothing but wait and settle waits, so what stands between two of them overlaps. A line that cannot be done (publish
without a connection) does nothing: any part of a script is a script, which is what shrink.py lives on.
"""

import random

TRANSPORTS = ("tcp", "tls", "ws")
TOPICS = ("a", "a/b", "a/b/c", "b", "b/c", "/b", "a//c", "$a/b")
FILTERS = ("#", "+", "a", "b", "a/#", "+/b", "a/+", "a/+/c", "a/b", "a/b/c", "b/#", "+/+", "/+", "+/#", "$a/#", "$a/+")
KINDS = ("puback", "pubrec", "pubrel", "pubcomp")

# Limits in some of the runs; the model knows what each of these means.
CONFIGS = (
    (),
    ("max_inflight_messages 1",),
    ("max_inflight_messages 3",),
    ("max_inflight_messages 1", "max_queued_messages 2"),
    ("max_inflight_messages 2", "max_queued_messages 5"),
    ("queue_qos0_messages true",),
)


def parse(text):
    """A script as a list of lines, each a list of words; empty lines and those that begin with # are left out."""
    return [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def text_of(lines):
    return "\n".join(" ".join(words) for words in lines) + "\n"


def header(lines):
    """(lines of configuration, {client: transport}, the other lines)"""
    config = tuple(" ".join(words[1:]) for words in lines if words[0] == "config")
    steps = [words for words in lines if words[0] not in ("config", "client")]
    clients = {words[0]: "tcp" for words in steps if words[0] not in ("poll", "settle")}
    clients.update({words[1]: words[2] for words in lines if words[0] == "client"})
    return config, clients, steps


def matches(filter_, topic):
    """[4.7]"""
    wanted, levels = filter_.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in ("#", "+"):
        return False
    for i, level in enumerate(wanted):
        if level == "#":
            return True
        if i == len(levels) or level not in ("+", levels[i]):
            return False
    return len(wanted) == len(levels)


class Generator:
    """One random script. Each leans its own way: few clients or many, few topics, much loss, patient or not."""

    def __init__(self, seed):
        self.random = random.Random(f"sequence {seed}")
        rnd = self.random
        self.clients = [f"c{i + 1}" for i in range(rnd.choice((2, 2, 3, 3, 4, 5, 6, 8)))]
        self.topics = rnd.sample(TOPICS, rnd.randint(1, 4))
        useful = [f for f in FILTERS if any(matches(f, t) for t in self.topics)]
        self.filters = rnd.sample(useful, min(len(useful), rnd.randint(1, 5))) + [rnd.choice(FILTERS)]
        self.kept = rnd.choice((0.3, 0.7, 1))
        self.qos = [rnd.choice(((0, 1, 2), (0, 1, 2), (1, 2), (2,), (1,))) for _ in range(2)]  # PUBLISH, SUBSCRIBE
        self.retain = rnd.choice((0, 0.2, 0.6))
        self.sizes = rnd.choice(((8,), (8, 8, 300), (8, 200, 5000)))
        self.slow = rnd.choice((0, 0, 0.3, 0.8))
        self.connected = set()
        self.cleared = set()
        self.weights = {
            "publish": 12, "subscribe": 4, "unsubscribe": rnd.choice((0, 1, 2)), "disconnect": rnd.choice((0, 1)),
            "lose": rnd.choice((0, 1, 3)), "takeover": rnd.choice((0, 1, 2)), "hold": rnd.choice((0, 0, 1, 2)),
            "answer": rnd.choice((0, 2, 4)), "deaf": rnd.choice((0, 0, 1)), "wait": rnd.choice((1, 4, 12)),
            "poll": rnd.choice((0, 2, 6)), "settle": rnd.choice((0, 1, 2)),
        }

    def script(self):
        rnd = self.random
        lines = [["config", *c.split()] for c in rnd.choice(CONFIGS)]
        others = rnd.choice((0, 0, 0.3, 1))
        lines += [["client", c, rnd.choice(TRANSPORTS[1:])] for c in self.clients if rnd.random() < others]
        for c in self.clients:
            if rnd.random() < 0.9:
                lines.append(self.connect(c))
                if rnd.random() < 0.8:
                    lines.append(self.subscribe(c))
                if rnd.random() < self.slow:
                    lines.append([c, "hold"])
        if rnd.random() < 0.5:
            lines.append(["settle"])
        kinds, weights = zip(*self.weights.items())
        for _ in range(rnd.choice((10, 20, 30, 50))):
            lines += self.step(rnd.choices(kinds, weights)[0], rnd.choice(self.clients))
        return lines

    def step(self, kind, c):
        rnd = self.random
        if kind in ("poll", "settle"):
            return [[kind]]
        if c not in self.connected:
            late = [["settle"]] if rnd.random() < 0.2 else []
            return [*late, self.connect(c)] if rnd.random() < 0.4 else []
        if kind == "takeover":
            return [self.connect(c)]
        return [getattr(self, kind)(c)]

    def connect(self, c):
        rnd = self.random
        self.connected.add(c)
        words = [c, "connect", "kept" if rnd.random() < self.kept else "clean"]
        if rnd.random() < 0.3:
            words += ["will", *self.message()]
        return words

    def message(self):
        rnd = self.random
        topic = rnd.choice(self.topics)
        words = [topic, str(rnd.choice(self.qos[0]))]
        if rnd.random() >= self.retain:
            return [*words, str(rnd.choice(self.sizes))]
        if topic not in self.cleared and rnd.random() < 0.3:
            self.cleared.add(topic)
            return [*words, "retain", "0"]
        return [*words, "retain", str(rnd.choice(self.sizes))]

    def publish(self, c):
        return [c, "publish", *self.message()]

    def subscribe(self, c):
        rnd = self.random
        count = rnd.choice((1, 1, 1, 2, 3))
        return [c, "subscribe", *(f"{rnd.choice(self.filters)}:{rnd.choice(self.qos[1])}" for _ in range(count))]

    def unsubscribe(self, c):
        return [c, "unsubscribe", *(self.random.choice(self.filters) for _ in range(self.random.choice((1, 1, 2))))]

    def disconnect(self, c):
        self.connected.discard(c)
        return [c, "disconnect"]

    def lose(self, c):
        rnd = self.random
        self.connected.discard(c)
        words = [c, "lose", rnd.choice(("fin", "rst"))]
        when = rnd.choice(("", "sent", "sent", "received"))
        if when:
            self.connected.add(c)  # not yet
            words += [when, str(rnd.randint(0, rnd.choice((4, 20, 60, 300))))]
        return words

    def deaf(self, c):
        return [c, "deaf", str(self.random.choice((0, self.random.randint(1, 100))))]

    def hold(self, c):
        return [c, self.random.choice(("hold", "hold", "prompt"))]

    def answer(self, c):
        return [c, "answer", self.random.choice(KINDS), str(self.random.choice((1, 1, 2)))]

    def wait(self, c):
        return [c, "wait"]


def generate(seed):
    return Generator(seed).script()
