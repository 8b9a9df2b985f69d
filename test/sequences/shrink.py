"""shrink: makes a script that fails as short and as plain as it will go.

Two steps, again and again until neither helps: leave lines out (big pieces first, then single lines), and make lines
simpler. A candidate counts when it fails in the same way (Wrong.kind). Where the order of things between clients is the
broker's affair a script may fail only now and then, so each candidate is played a few times: as often as the script
before it seems to need.
"""

import time


def without(lines, fails):
    """Leaves out what can be left out."""
    size = max(1, len(lines) // 2)
    while True:
        at = 0
        while at < len(lines):
            shorter = lines[:at] + lines[at + size:]
            if any(w[0] not in ("config", "client") for w in shorter) and fails(shorter):
                lines = shorter
            else:
                at += size
        if size == 1:
            return lines
        size //= 2


def simpler_lines(words):
    """A line in simpler ways, the simplest first."""
    if words[0] in ("config", "client", "poll", "settle"):
        return
    kind, rest = words[1], words[2:]
    if kind == "connect" and len(rest) > 1:
        yield words[:3]
        yield from ([*words[:4], *m] for m in simpler_message(rest[2:]))
    if kind == "publish":
        yield from ([*words[:2], *m] for m in simpler_message(rest))
    if kind in ("subscribe", "unsubscribe") and len(rest) > 1:
        yield from ([*words[:2], *rest[:i], *rest[i + 1:]] for i in range(len(rest)))
    if kind == "lose" and len(rest) > 1:
        yield words[:3]
        if int(rest[2]) > 1:
            yield [*words[:4], "1"]


def simpler_message(words):
    topic, qos, *rest = words
    if "retain" in rest:
        yield [topic, qos, *(w for w in rest if w != "retain" and w != "0")]
    if rest and rest[-1] not in ("retain", "0", "8"):
        yield [topic, qos, *rest[:-1], "8"]
    for lower in range(int(qos)):
        yield [topic, str(lower), *rest]


def simplify(lines, fails):
    for at in range(len(lines)):
        again = True
        while again:
            again = False
            for words in simpler_lines(lines[at]):
                candidate = [*lines[:at], words, *lines[at + 1:]]
                if fails(candidate):
                    lines, again = candidate, True
                    break
    return lines


def shrink(lines, kind, play, seconds=900):
    """play(lines) gives a Wrong, or None. Returns the shortest script found in this time that fails in this way."""
    end = time.monotonic() + seconds
    tries = 3

    def fails(candidate):
        for _ in range(tries):
            if time.monotonic() > end:
                return False
            wrong = play(candidate)
            if wrong and wrong.kind == kind:
                return True
        return False

    failed = sum(bool(play(lines)) for _ in range(4))
    tries = {4: 1, 3: 3, 2: 5}.get(failed, 10)
    while time.monotonic() < end:
        before = lines
        lines = simplify(without(lines, fails), fails)
        if lines == before:
            break
    return lines
