#!/usr/bin/env python3
"""sequences: random sequences of what clients may do, played against the daemon and judged by the model.

    python3 test/sequences/sequences.py                      # random seeds, until something is wrong
    python3 test/sequences/sequences.py --seconds 3600       # for so long (make soak)
    python3 test/sequences/sequences.py --seed 17 [--count N]
    python3 test/sequences/sequences.py --replay FILE [--times N]
    python3 test/sequences/sequences.py --show 17            # the script of a seed

A failure is made short (shrink.py), printed with what happened, and kept as a file that --replay takes. The daemon is
that of BRAMBLE in the environment, or build/bramble.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "test" / "lib"))

import streams  # noqa: E402
from bramble import LISTENER, Broker, Pki  # noqa: E402
from client import Wrong  # noqa: E402
from player import Player, clean_up  # noqa: E402
from script import TRANSPORTS, generate, header, parse, text_of  # noqa: E402
from shrink import shrink  # noqa: E402


class Ground:
    """Where scripts are played: a daemon for each configuration, started when it is first wanted and again after a
    failure. broker_class: the daemon, or one with a planted fault (planted.py)."""

    def __init__(self, folder, pki, broker_class=Broker):
        self.folder = Path(folder)
        self.pki = pki
        self.tls = streams.tls_context(pki.ca)
        self.broker_class = broker_class
        self.brokers = {}
        self.started = 0
        self.sequences = self.lines = self.packets = 0

    def broker(self, config):
        if config not in self.brokers:
            self.started += 1
            text = "".join(line + "\n" for line in ("connection_messages false", *config))
            text += "".join(LISTENER[transport] for transport in TRANSPORTS)
            self.brokers[config] = self.broker_class(self.folder / f"broker{self.started}", text, self.pki).start()
        return self.brokers[config]

    def play(self, lines, **options):
        """Plays a script once. Returns (None or what was Wrong, the Player)."""
        config, names, steps = header(lines)
        broker = self.broker(config)
        connect = getattr(broker, "script_stream", lambda transport: broker.stream(transport, ca=self.tls))
        player = Player(connect, lines, **options)
        wrong = None
        try:
            player.play()
            clean_up(broker, names)
        except Wrong as error:
            wrong = error
        except (AssertionError, OSError, streams.Closed) as error:
            wrong = Wrong("harness", repr(error))
        if wrong:
            wrong = self.drop(config, wrong)
        self.sequences += 1
        self.lines += len(steps)
        self.packets += sum(1 for _, _, arrow, _ in player.trace if arrow != "--")
        return wrong, player

    def drop(self, config, wrong):
        """The next script gets a daemon that knows nothing of this one. If it ended badly, that is the news."""
        broker = self.brokers.pop(config)
        try:
            broker.stop()
        except AssertionError as error:
            return Wrong("crash", f"{wrong}\n{error}")
        finally:
            broker.kill()
        return wrong

    def stop(self):
        for broker in self.brokers.values():
            broker.stop()
        self.brokers = {}

    def shortest(self, lines, wrong, player, seconds):
        """(the shortest script, what is Wrong with it, its Player); the same when it does not happen again"""
        soon = {"patience": 2} if wrong.kind == "silent" else {}  # not a thousand times as long as it takes to be sure
        short = shrink(lines, wrong.kind, lambda candidate: self.play(candidate, **soon)[0], seconds)
        for _ in range(20):
            again, that = self.play(short)
            if again:
                return short, again, that
        return lines, wrong, player


def report(name, lines, wrong, player):
    """All that is known of a failure, as text."""
    out = [f"sequence {name} is wrong: {wrong}", "", "the shortest script found:", ""]
    out += ["    " + line for line in text_of(lines).splitlines()]
    out += ["", "what happened (tick, connection, packet; .2 is a client's second connection):", ""]
    out += [f"    {now:4} {str(conn):9} {arrow} {text}" for now, conn, arrow, text in player.trace]
    return "\n".join(out) + "\n"


def keep(name, lines):
    place = TOP / "build" / "sequences"
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"{name}.script"
    path.write_text(text_of(lines))
    return path


def check_seed(ground, seed, seconds=900):
    """Plays the script of a seed. Returns None, or the report of a failure, which it takes some seconds to shorten."""
    lines = generate(seed)
    wrong, player = ground.play(lines)
    if not wrong:
        return None
    print(f"seed {seed}: {wrong}", flush=True)
    lines, wrong, player = ground.shortest(lines, wrong, player, seconds)
    path = keep(f"seed-{seed}", lines)
    return report(f"of seed {seed}", lines, wrong, player) + f"\nagain: test/sequences/sequences.py --replay {path}\n"


def replay(ground, path, times):
    lines = parse(Path(path).read_text())
    for number in range(times):
        wrong, player = ground.play(lines)
        if wrong:
            print(report(f"{path} ({number + 1}. time)", lines, wrong, player))
            return 1
    print(f"{path}: nothing wrong, {times} times")
    return 0


def soak(ground, seeds, seconds):
    end = time.monotonic() + seconds if seconds else None
    said = time.monotonic()
    for seed in seeds:
        problem = check_seed(ground, seed)
        if problem:
            print(problem)
            return 1
        now = time.monotonic()
        if now - said > 60:
            said = now
            print(f"{ground.sequences} sequences, {ground.lines} lines, {ground.packets} packets; last seed {seed}", flush=True)
        if end and now > end:
            break
    print(f"{ground.sequences} sequences, {ground.lines} lines, {ground.packets} packets: nothing wrong")
    return 0


def main():
    options = argparse.ArgumentParser(description="random sequences against the daemon")
    options.add_argument("--seed", type=int, help="the first seed (default: random)")
    options.add_argument("--count", type=int, help="how many seeds")
    options.add_argument("--seconds", type=float, help="for how long")
    options.add_argument("--replay", metavar="FILE", help="play this script")
    options.add_argument("--times", type=int, default=20, help="with --replay: so often (20)")
    options.add_argument("--show", type=int, metavar="SEED", help="print the script of a seed")
    asked = options.parse_args()
    if asked.show is not None:
        print(text_of(generate(asked.show)), end="")
        return 0
    seed = random.SystemRandom().randrange(1 << 40) if asked.seed is None else asked.seed
    count = asked.count or (1 if asked.seed is not None and not asked.seconds else 1 << 40)
    with tempfile.TemporaryDirectory() as place:
        ground = Ground(place, Pki(place + "/pki"))
        if asked.replay:
            status = replay(ground, asked.replay, asked.times)
        else:
            print(f"{os.environ.get('BRAMBLE', 'build/bramble')}, seeds from {seed}", flush=True)
            status = soak(ground, range(seed, seed + count), asked.seconds)
        ground.stop()
    return status


if __name__ == "__main__":
    sys.exit(main())
