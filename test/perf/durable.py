#!/usr/bin/python3
"""Durable QoS 1 messages: how many a second, how soon acknowledged, how many with one fsync, and what persistence costs.

    test/perf/durable.py [BRAMBLE] [--seconds N] [--runs N] [--callgrind]     (default build/bramble; needs mosquitto and gcc, root to
                                                                        count flushes, valgrind for --callgrind)

Prints two Markdown tables. First: 1, 10 and 100 publishers of 64 B to one kept session that is away, each with 1 or 20 messages
under way (owed.c), for bramble and, in turns, the distribution's mosquitto with `persistence true`, which acknowledges before it
writes; next to it how many 4 KiB blocks a second one thread can write with a fdatasync each on the same disk. A publish per fsync is
counted at the block device (flushes). Second: the CPU per message with persistence on and off, ten publishers to ten kept sessions that
are all there, the minimum of runs in turns; --callgrind counts instructions instead. Nothing here passes or fails.
"""
import argparse
import os
import shutil
import tempfile
import time

import brokers

MOSQUITTO = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
CONFIG = "listener\nallow_anonymous true\nmax_queued_messages 0\npersistence true\npersistence_location {disk}/\n"
MEMORY = "listener\nallow_anonymous true\nmax_queued_messages 0\n"
PUBLISHERS, WINDOWS = (1, 10, 100), (1, 20)


def syncs_per_second(disk, seconds):
    """Writes into a file whose blocks are there, so that only data is to be synced."""
    path = os.path.join(disk.path, "syncs")
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.pwrite(handle, bytes(1 << 22), 0)
    os.fsync(handle)
    count, start = 0, time.monotonic()
    while time.monotonic() - start < seconds:
        os.pwrite(handle, os.urandom(4096), count % 1024 * 4096)
        os.fdatasync(handle)
        count += 1
    os.close(handle)
    os.unlink(path)
    return count / seconds


def rate(name, command, disk, folder, program, options, seconds):
    """Messages a second, latencies, messages for each flush (None: not known); with as many messages as take about so long."""
    disk.empty()
    broker = brokers.Broker(name, command, folder, CONFIG.format(disk=disk.path))
    brokers.warm(program, broker)
    probe = brokers.Owed(program, broker.ports[0], subscribers=1, root=2, **options, messages=200 * options["publishers"])
    played = probe.play()
    probe.stop()
    load = brokers.Owed(program, broker.ports[0], subscribers=1, **options, messages=max(1000, int(played[0] / played[1] * seconds)))
    before = disk.counted()[1]
    messages, seconds, median, late, _, _ = load.play()
    flushes = disk.counted()[1] - before
    load.stop()
    broker.stop()
    return messages / seconds, median, late, messages / flushes if flushes else None


def print_rates(bramble, disk, folder, program, seconds):
    print(f"One thread alone: {syncs_per_second(disk, seconds):.0f} writes of 4 KiB with fdatasync a second on this disk.\n\n"
          "| publishers, messages under way of each | bramble: messages a second | ack, ms: median / 99th | messages per fsync | "
          "mosquitto: messages a second | ack, ms: median / 99th |\n|---|---|---|---|---|---|")
    for publishers in PUBLISHERS:
        for window in WINDOWS:
            options = {"publishers": publishers, "window": window}
            a = rate("bramble", bramble, disk, folder, program, options, seconds)
            b = rate("mosquitto", MOSQUITTO, disk, folder, program, options, seconds)
            print(f"| {publishers}, {window} | {a[0]:.0f} | {a[1] / 1000:.2f} / {a[2] / 1000:.2f} | "
                  f"{f'{a[3]:.1f}' if a[3] else '-'} | {b[0]:.0f} | {b[1] / 1000:.2f} / {b[2] / 1000:.2f} |", flush=True)
    print(f"\nOne thread alone, once more: {syncs_per_second(disk, seconds):.0f}.\n")


# ---- what persistence costs

SHAPES = {"each message to ten": {"messages": 20000}, "each message to one": {"messages": 50000, "pairs": 1}}
ALL_HERE = {"publishers": 10, "window": 10, "subscribers": 10, "online": 10, "closed": 1}


def cpu(bramble, config, disk, folder, program, options):
    """Nanoseconds per message, of all threads."""
    disk.empty()
    broker = brokers.Broker("bramble", bramble, folder, config)
    load = brokers.Owed(program, broker.ports[0], **ALL_HERE, **options)
    before = sum(broker.cpu())
    messages = load.play()[0]
    used = sum(broker.cpu()) - before
    load.stop()
    broker.stop()
    return used / messages * 1e9


def counted(bramble, config, disk, folder, program, options):
    """Instructions per message."""
    def life(messages):
        def play(broker):
            load = brokers.Owed(program, broker.ports[0], **{**ALL_HERE, **options, "messages": messages})
            load.play()
            load.stop()
            broker.stop()
        disk.empty()
        return brokers.instructions(lambda valgrind: brokers.Broker("bramble", [*valgrind, bramble], folder, config), folder, play)
    return (life(6000) - life(1000)) / 5000


def print_costs(args, bramble, disk, folder, program):
    configs = [MEMORY, CONFIG.format(disk=disk.path)]
    unit = "instructions" if args.callgrind else "CPU, ns"
    print(f"| {unit} per message, all are there | persistence false | persistence true | ratio |\n|---|---|---|---|")
    for title, options in SHAPES.items():
        runs = [[], []]
        for _ in range(1 if args.callgrind else args.runs):
            for i, config in enumerate(configs):
                runs[i].append((counted if args.callgrind else cpu)(bramble, config, disk, folder, program, options))
        off, on = map(min, runs)
        print(f"| {title} | {off:.0f} | {on:.0f} | {on / off:.2f} |", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bramble", nargs="?", default=brokers.BRAMBLE)
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement of a rate")
    parser.add_argument("--runs", type=int, default=7, help="of each measurement of CPU")
    parser.add_argument("--callgrind", action="store_true")
    parser.add_argument("--only", choices=("rates", "costs"))
    args = parser.parse_args()
    bramble = os.path.abspath(args.bramble)
    brokers.many_descriptors()
    with tempfile.TemporaryDirectory() as folder:
        program = brokers.load_program("owed", folder)
        disk = brokers.Disk(folder)
        try:
            if args.only != "costs":
                print_rates(bramble, disk, folder, program, args.seconds)
            if args.only != "rates":
                print_costs(args, bramble, disk, folder, program)
        finally:
            disk.close()


main()
