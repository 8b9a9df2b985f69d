#!/usr/bin/python3
"""How long a large store takes to load, and how much memory queued messages take.

    test/perf/start_up.py [BRAMBLE] [--small]      (default build/bramble; needs gcc; --small: a hundredth of everything)

Prints a Markdown table. 100,000 retained messages of 64 B and 10,000 kept sessions with a subscription each are stored, the daemon
ends, and the seconds until it says READY=1 again are measured: so are those after it was killed, with what is then in the -wal.
1,000,000 messages of 100 B are queued for one client that is away, and 100,000 for each of ten; the resident memory is that after the
last acknowledgement, and once more after a restart. Nothing here passes or fails.
"""
import argparse
import os
import select
import signal
import socket
import sys
import tempfile
import time

import brokers

CONFIG = "listener\nallow_anonymous true\npersistence true\npersistence_location {disk}\n"


class Broker(brokers.Broker):
    """Knows how long it took to be ready."""

    def __init__(self, bramble, disk, folder):
        name = f"\0bramble-perf-{os.getpid()}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(name)
            os.environ["NOTIFY_SOCKET"] = "@" + name[1:]
            self.notify = notify
            self.begun = time.monotonic()
            super().__init__("bramble", bramble, folder, CONFIG.format(disk=disk.path))

    def wait_for(self, port):
        while not select.select([self.notify], [], [], 600)[0] or b"READY=1" not in self.notify.recv(4096).split(b"\n"):
            if self.process.poll() is not None:
                sys.exit("bramble does not start")
        self.seconds = time.monotonic() - self.begun

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def play(program, broker, **options):
    load = brokers.Owed(program, broker.ports[0], **options)
    played = load.play()
    load.stop()
    return played


def size(disk):
    path = os.path.join(disk.path, "bramble.db")
    return os.path.getsize(path) if os.path.exists(path) else 0


def row(what, value):
    print(f"| {what} | {value} |", flush=True)


def loading(bramble, disk, folder, program, part):
    disk.empty()
    broker = Broker(bramble, disk, folder)
    play(program, broker, messages=0, subscribers=10000 // part, pairs=1)
    play(program, broker, messages=100000 // part, topics=100000 // part, retain=1, window=4000, root=1)
    broker.stop()
    row("file, MiB", f"{size(disk) / 2**20:.1f}")
    broker = Broker(bramble, disk, folder)
    row("seconds until it is ready: 100,000 retained messages, 10,000 sessions", f"{broker.seconds:.2f}")
    row("resident then, KiB", broker.status("VmRSS"))
    broker.kill()
    broker = Broker(bramble, disk, folder)
    row("the same after a kill", f"{broker.seconds:.2f}")
    broker.stop()


def queueing(bramble, disk, folder, program, part, sessions):
    disk.empty()
    broker = Broker(bramble, disk, folder)
    before = broker.status("VmRSS")
    played = play(program, broker, publishers=10, window=100, messages=1000000 // sessions // part, payload=100, subscribers=sessions)
    name = f"{1000000 // sessions:,} messages of 100 B for each of {sessions} away"
    row(f"{name}: messages a second", f"{played[0] / played[1]:.0f}")
    row(f"{name}: resident before / after / highest, KiB", f"{before} / {broker.status('VmRSS')} / {broker.status('VmHWM')}")
    broker.stop()
    row(f"{name}: file, MiB", f"{size(disk) / 2**20:.1f}")
    broker = Broker(bramble, disk, folder)
    row(f"{name}: seconds until it is ready", f"{broker.seconds:.2f}")
    row(f"{name}: resident then / highest, KiB", f"{broker.status('VmRSS')} / {broker.status('VmHWM')}")
    broker.stop()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bramble", nargs="?", default=brokers.BRAMBLE)
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args()
    bramble = os.path.abspath(args.bramble)
    part = 100 if args.small else 1
    brokers.many_descriptors()
    with tempfile.TemporaryDirectory() as folder:
        program = brokers.load_program("owed", folder)
        disk = brokers.Disk(folder)
        try:
            print("| figure | |\n|---|---|")
            loading(bramble, disk, folder, program, part)
            for sessions in (1, 10):
                queueing(bramble, disk, folder, program, part, sessions)
        finally:
            disk.close()


main()
