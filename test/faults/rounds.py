#!/usr/bin/env python3
"""rounds: a broker is killed at random moments under load, again and again; checker.py judges what its clients saw.

    python3 test/faults/rounds.py                          # runs of several kills, until something is wrong
    python3 test/faults/rounds.py --seconds 3600           # for so long (make faults)
    python3 test/faults/rounds.py --seed 17 [--count 1]
    python3 test/faults/rounds.py --disk always            # or never; by default in every other run
    python3 test/faults/rounds.py --broker mosquitto       # or bad:MISTAKE (bad_broker.py), or good

A run has one store and one log. In each round the daemon is started, clients come (some do not), publish, come and go,
and the daemon is killed (SIGKILL; sometimes it is stopped in order, or killed as it starts). At the end of some rounds,
and of the last one, everybody comes and everything is drained. In some runs the disk is bad, too: it stalls, gives errors or
is full for a while (disk.py), and some kills fall into that.

A seed says who does what and when; what happens in the end is up to the machine. A failure keeps its log and the store
in build/faults/seed-N.
"""

import argparse
import errno
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "test" / "lib"), str(TOP / "test" / "faults")]

from bramble import COMPLAINT, SANITIZED, Broker, Failed, free_port  # noqa: E402
from checker import Checker  # noqa: E402
from disk import Disk, build  # noqa: E402
from loadclients import Log, Looker, Publisher, Subscriber, World  # noqa: E402
from streams import TIMEOUT  # noqa: E402

MOSQUITTO = "/usr/sbin/mosquitto"


# ---- brokers: start(), kill(), stop(), port, dir -------------------------------------------------------------------

class Bramble:
    """disk: the library of disk.py, or None: its disk is well."""

    def __init__(self, folder, seed, disk=None):
        rnd = random.Random(f"config {seed}")
        self.lines = ["persistence true", "persistence_location {dir}/", "connection_messages false",
                      f"persistence_commit_delay {rnd.choice([0, 20, 250, 250])}",
                      f"persistence_lazy_delay {rnd.choice([0, 100, 1000, 5000])}",
                      f"queue_memory_limit {rnd.choice([0, 2000, 20000, 16777216])}",
                      f"max_inflight_messages {rnd.choice([1, 5, 20, 100])}",
                      f"persistence_sync {rnd.choice(['full', 'full', 'normal', 'off'])}"]
        self.broker = Broker(folder, "\n".join(self.lines) + "\n")
        self.dir = self.broker.dir
        self.disk = None
        if disk:
            self.disk = Disk(disk, self.dir)
            self.broker.env = self.disk.env

    def mischief(self, rnd, world, seconds):
        """Something happens to the disk within these seconds, for a while; in the end it is well."""
        if not self.disk:
            return
        what, how = rnd.choice([("stalls", lambda: self.disk.stall()),
                                ("gives EIO", lambda: self.disk.fail(errno.EIO)),
                                ("is read-only", lambda: self.disk.fail(errno.EROFS)),
                                ("cannot sync", lambda: self.disk.put("sync_error", errno.EIO)),
                                ("has some room", lambda: setattr(self.disk, "room", rnd.randrange(1 << 20))),
                                ("is full", lambda: setattr(self.disk, "room", 0))])

        def begin():
            how()
            world.log.say("disk", "-", what)

        at = rnd.random() * seconds
        world.later(at, begin)
        world.later(at + rnd.choice([0.05, 0.3, 1.0]) * rnd.random(), lambda: self.heal(world))

    def reload(self):
        if self.broker.process.poll() is None:
            self.broker.signal(signal.SIGHUP)

    def heal(self, world):
        if self.disk:
            self.disk.go_on()
            self.disk.fail(0)
            self.disk.room = None
            world.log.say("disk", "-", "is well")

    @property
    def port(self):
        return self.broker.ports["tcp"]

    def start(self, wait=True):
        self.broker.start(wait)

    def kill(self):
        self.broker.kill()
        if COMPLAINT.search(self.broker.log):
            raise AssertionError(self.broker.log)

    def stop(self):
        self.broker.stop()

    @property
    def text(self):
        return "\n".join(self.lines) + "\n" + self.broker.log


class Other:
    """A program that listens on one port when it is ready. Its disk is always well."""

    def __init__(self, folder, command):
        self.dir = Path(folder)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.command = command
        self.process = None
        self.disk = None
        self.text = ""

    def start(self, wait=True):
        with open(self.dir / "output", "ab") as output:
            self.process = subprocess.Popen([str(word).format(dir=self.dir, port=self.port) for word in self.command],
                                            stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        end = time.monotonic() + TIMEOUT
        while wait:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT).close()
                return
            except ConnectionRefusedError:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise Failed(self.process.poll(), (self.dir / "output").read_text()) from None
                time.sleep(0.01)

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(TIMEOUT)

    def reload(self):
        pass

    def heal(self, world):
        pass


def mosquitto(folder, _seed):
    broker = Other(folder, [MOSQUITTO, "-c", "{dir}/conf"])
    (broker.dir / "conf").write_text(f"listener {broker.port} 127.0.0.1\nallow_anonymous true\npersistence true\nuser root\n"
                                     f"persistence_location {broker.dir}/\nautosave_interval 1\nautosave_on_changes true\n"
                                     "max_queued_messages 0\n")
    return broker


def small(mistake=None):
    """bad_broker.py, honest without a mistake."""
    program = str(Path(__file__).with_name("bad_broker.py"))
    return lambda folder, _seed: Other(folder, ["/usr/bin/python3", program, "{port}", "{dir}/records",
                                                *([mistake] if mistake else [])])


def bramble_with(library, share):
    """The disk is bad in this share of the runs."""
    return lambda folder, seed: Bramble(folder, seed, library if random.Random(f"disk {seed}").random() < share else None)


def broker_named(name):
    if name.startswith("bad:"):
        return small(name[4:])
    return {"bramble": Bramble, "mosquitto": mosquitto, "good": small()}[name]


# ---- one run ---------------------------------------------------------------------------------------------------------

class Run:
    def __init__(self, folder, seed, make_broker=Bramble, rounds=5, load=1.0, patience=TIMEOUT):
        self.random = random.Random(f"run {seed}")
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / "events.log"
        self.world = World(Log(self.path), f"world {seed}")
        self.broker = make_broker(self.folder / "broker", seed)
        self.rounds, self.load = rounds, load
        self.patience = patience  # seconds without any progress, until nothing more is waited for
        self.looks = 0
        self.checker = Checker()
        self.people()

    def people(self):
        """Who takes part."""
        rnd, world, load = self.random, self.world, self.load
        world.port = self.broker.port
        for i in range(1, 7):
            topics = [f"p/{i}/{k}" for k in "abc"[:rnd.randrange(1, 4)]]
            window = rnd.choice([1, 1, 5, 20, 60])
            Publisher(world, f"p{i}", topics, qos=rnd.choice([(1,), (1,), (2,), (1, 2), (0, 1, 2)]), window=window,
                      ids=rnd.choice([65535, window + 1, 2 * window + 5]), rate=load * rnd.choice([30, 150, 400]),
                      size=rnd.choice([0, 0, 300, 4000]), kept=rnd.random() < 0.9)
        Publisher(world, "impatient", ["p/7/a"], qos=(1,), window=rnd.choice([1, 10]), rate=load * 60, impatient=1.0)
        for i in (1, 2):
            topics = [f"r/{i}/{k}" for k in range(rnd.choice([2, 10]))]
            Publisher(world, f"r{i}", topics, qos=rnd.choice([(0,), (1,), (0, 1), (1, 2)]), window=rnd.choice([1, 10]),
                      rate=load * rnd.choice([30, 200]), retain=rnd.choice([1.0, 0.7]), clear=rnd.choice([0.0, 0.2]))
        self.ender = Publisher(world, "ender", [Looker.END], qos=(1,), retain=1.0, rate=1000)
        filters = [("p/#", 2), ("p/#", 1), ("p/+/a", 2), ("p/1/#", 1), ("p/2/#", 2), ("r/#", 1), ("r/1/#", 2)]
        for i in range(1, 8):
            wanted = rnd.sample(filters[2:5], 2) if rnd.random() < 0.3 else [rnd.choice(filters)]
            if "p/+/a" in [f for f, _ in wanted]:
                wanted = wanted[:1]  # no two that match the same: a broker may then send twice
            extra = [("q/#", 1)] if rnd.random() < 0.3 else []
            Subscriber(world, f"s{i}", wanted, slow=rnd.choice([0, 0, 0.02, 0.2, 0.6]), extra=extra,
                       mixed=rnd.random() < 0.5)
        for i in (1, 2):
            dies = Subscriber(world, f"w{i}", [("w/#", rnd.choice([1, 2]))])
            dies.will = (f"w/{i}", rnd.choice([1, 2]))
        if rnd.random() < 0.5:
            Publisher(world, "late", ["q/a"], qos=(1, 2), window=10, rate=load * 100)

    # ---- parts of a round

    def play(self):
        """Returns the checker, which has read everything."""
        try:
            self.broker.start()
            self.first()
            for number in range(self.rounds):
                self.world.log.say("broker", "-", f"round {number}")
                self.round(number == self.rounds - 1)
            self.broker.stop()
        finally:
            self.broker.kill()
            for client in list(self.world.clients):
                client.lose()
            self.world.log.close()
        with open(self.path, encoding="utf-8") as file:
            return self.checker.read(file)

    def wait(self, done, what):
        """What does not come is the checker's to report; the log says that it was waited for."""
        if not self.patient(done):
            self.world.log.say("all", "-", f"waited in vain for {what}")

    def patient(self, done):
        """Waits as long as there is any progress."""
        while not self.world.run(done, 0):
            before = self.world.progress
            if not self.world.run(done, self.patience) and self.world.progress == before:
                return False
        return True

    def first(self):
        """All subscribe; the message that ends a look is retained."""
        for client in [*self.world.subscribers, self.ender]:
            client.connect()
        self.wait(lambda: all(c.up and not c.asked for c in self.world.subscribers), "SUBACK")
        self.ender.active = True
        self.wait(lambda: self.ender.serial >= 1, "a message")
        self.ender.active = False
        self.wait(lambda: self.ender.idle, "PUBACK")

    def round(self, last):
        rnd, world = self.random, self.world
        for client in world.publishers:
            client.active = client is not self.ender and rnd.random() < 0.9
            client.connect()
        for client in world.subscribers:
            if rnd.random() < 0.3:
                client.lose(rnd.choice(["close", "reset", "disconnect"]))
            else:
                client.connect()
            self.flap(client)
        if rnd.random() < 0.5:
            self.look()
        if rnd.random() < 0.3:
            world.later(rnd.random(), self.broker.reload)
        seconds = rnd.choice([0.05, 0.2, 0.5, 1.0, 2.0]) * rnd.random()
        if self.broker.disk and rnd.random() < 0.7:
            seconds = rnd.choice([0.1, 0.5, 3.0]) * rnd.random()  # after an error the daemon rests for a second
            self.broker.mischief(rnd, world, seconds)
        world.run(lambda: False, seconds)
        if last or rnd.random() < 0.3:
            self.drain()
        self.end(last)

    def flap(self, client):
        """It comes and goes at random in this round."""
        rnd = self.random
        for at in [rnd.random() * 2 for _ in range(rnd.choice([0, 0, 1, 3]))]:
            how = rnd.choice(["close", "reset", "disconnect", "take over"])
            self.world.later(at, lambda how=how: self.come_or_go(client, how))
        if rnd.random() < 0.3:
            self.world.later(rnd.random(), client.more)
        if rnd.random() < 0.2:
            self.world.later(rnd.random(), client.change)

    def come_or_go(self, client, how):
        if not client.sock:
            self.come(client)
        elif how == "take over":
            self.come(client, client.take_over)
        else:
            client.lose(how)

    @staticmethod
    def come(client, how=None):
        try:
            (how or client.connect)()
        except OSError:
            pass  # killed just now

    def look(self):
        self.looks += 1
        looker = Looker(self.world, f"look{self.looks}", ["r/1/+", "r/2/+"], self.random.choice([0, 1]), self.patience)
        looker.connect()
        return looker

    def drain(self):
        world = self.world
        world.timers.clear()
        self.broker.heal(world)
        for client in world.publishers:
            client.active = False
            client.connect()
        for client in world.subscribers:
            client.armed = False
            client.hurry = True
            client.connect()
        people = [c for c in world.clients if not isinstance(c, Looker)]
        self.wait(lambda: self.all_here(people) and all(c.idle for c in people), "the rest")
        looker = self.look()
        for client in people:
            client.ping()
        self.wait(lambda: looker.done and not any(c.pings for c in people), "PINGRESP, or what is retained")
        world.log.say("all", "-", "drained")
        for client in world.subscribers:
            client.hurry = False
            client.arrived.clear()

    def all_here(self, people):
        for client in people:
            if not client.sock:
                self.come(client)
        return all(client.up for client in people)

    def end(self, last):
        """The daemon's end, and its next start."""
        rnd, world = self.random, self.world
        if last:
            return
        if rnd.random() < 0.15:
            self.broker.heal(world)
            world.log.say("broker", "-", "stopped")
            self.broker.stop()
        else:
            self.broker.kill()
            world.log.say("broker", "-", "killed")
        people = [c for c in world.clients if c.sock]
        world.run(lambda: not any(c.sock for c in people), TIMEOUT)
        world.timers.clear()
        self.broker.heal(world)
        for client in world.subscribers:
            client.armed = False
        while rnd.random() < 0.2:  # and again, as it starts
            self.broker.start(wait=False)
            time.sleep(rnd.random() * 0.05)
            self.broker.kill()
            world.log.say("broker", "-", "killed as it started")
        self.broker.start()
        world.log.say("broker", "-", "started")


# ---- many of them ----------------------------------------------------------------------------------------------------

def play(folder, seed, make_broker=Bramble, rounds=None, load=None, patience=TIMEOUT):
    """One run. Returns (None or the report of what is wrong, the Checker)."""
    rnd = random.Random(f"size {seed}")
    run = Run(Path(folder) / f"seed-{seed}", seed, make_broker, rounds or rnd.choice([3, 5, 8, 20]),
              load or rnd.choice([0.5, 1, 2]) * (0.3 if SANITIZED else 1), patience)
    problem = None
    try:
        run.play()
        if run.checker.problems:
            problem = run.checker.report()
    except (AssertionError, Failed, OSError, subprocess.TimeoutExpired) as error:
        problem = f"the run itself failed: {error!r}"
    if not problem:
        shutil.rmtree(run.folder)
        return None, run.checker
    (run.folder / "report.txt").write_text(f"{problem}\n\n{run.broker.text}\n")
    return f"seed {seed} is wrong; its log and store are in {run.folder}\n{problem}", run.checker


def keep(folder, seed):
    """The folder of a failure in a place where it is not cleaned away."""
    place = TOP / "build" / "faults" / f"seed-{seed}"
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(Path(folder) / f"seed-{seed}", place)
    return place


def main():
    options = argparse.ArgumentParser(description="kill a broker under load, again and again")
    options.add_argument("--seed", type=int, help="the first seed (default: random)")
    options.add_argument("--count", type=int, help="how many runs")
    options.add_argument("--seconds", type=float, help="for how long")
    options.add_argument("--rounds", type=int, help="of each run")
    options.add_argument("--load", type=float, help="1: some 1000 messages a second")
    options.add_argument("--broker", default="bramble", help="bramble, mosquitto, good or bad:MISTAKE")
    options.add_argument("--disk", choices=("sometimes", "always", "never"), default="sometimes", help="whether it is bad")
    options.add_argument("--go-on", action="store_true", help="also after a failure")
    asked = options.parse_args()
    seed = random.SystemRandom().randrange(1 << 40) if asked.seed is None else asked.seed
    count = asked.count or (1 if asked.seed is not None and not asked.seconds else 1 << 40)
    end = time.monotonic() + asked.seconds if asked.seconds else None
    total, runs, failed = {}, 0, 0
    print(f"{os.environ.get('BRAMBLE', 'build/bramble') if asked.broker == 'bramble' else asked.broker}, seeds from {seed}", flush=True)
    with tempfile.TemporaryDirectory() as place:
        make_broker = broker_named(asked.broker)
        if asked.broker == "bramble" and asked.disk != "never":
            make_broker = bramble_with(build(place), 1 if asked.disk == "always" else 0.5)
        for number in range(seed, seed + count):
            problem, checker = play(place, number, make_broker, asked.rounds, asked.load)
            runs += 1
            for name, value in checker.counts.items():
                total[name] = total.get(name, 0) + value
            if problem:
                failed += 1
                print(problem.replace(place, str(TOP / "build" / "faults")), flush=True)
                keep(place, number)
            if runs % 10 == 0 or problem:
                print(f"{runs} runs, {total}; last seed {number}", flush=True)
            if (problem and not asked.go_on) or (end and time.monotonic() > end):
                break
    words = ("kills", "published", "acknowledged", "arrived", "owed at kills", "looks")
    print(f"== faults: {runs} runs, " + ", ".join(f"{w} {total.get(w, 0)}" for w in words)
          + (f": {failed} FAILED" if failed else ": nothing wrong"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
