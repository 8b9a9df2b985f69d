#!/usr/bin/python3
"""What the durable store writes: bytes per 1000 messages, by who is there and how soon they acknowledge.

    test/perf/wear.py [BRAMBLE] [--only TEXT]     (default build/bramble; needs gcc, root for the block counters)

Prints a Markdown table. The load is owed.c: 10 publishers of QoS 1, 64 B, each with 1 or 20 messages under way, and kept sessions
of which some are away; or retained updates. "all": each subscriber takes the messages of all publishers; "pairs": of one each.
Each case begins with a store that has been written to for a while. It has a file system of its own, for root an ext4 on a loop device, whose counters say what a card would have been given:
data, file system and journal. All is counted after persistence_lazy_delay has passed, and once more after the daemon has ended
(the last checkpoint). write_bytes is the daemon's own count (/proc/PID/io), in pages. Nothing here passes or fails.
"""
import argparse
import os
import tempfile
import time

import brokers

CONFIG = "listener\nallow_anonymous true\npersistence true\npersistence_location {disk}\n"
LAZY = 7  # seconds: persistence_lazy_delay and some more
MESSAGES = {0: 20000, 20: 6000, 100: 2000}  # by the subscribers' delay in milliseconds
WINDOWS = (1, 20)


def cases():
    """Title and options of owed.c."""
    yield "nothing (subscribers are there)", {"messages": 0, "subscribers": 10, "online": 10}
    ten = {"publishers": 10, "subscribers": 10}
    for window in WINDOWS:
        for delay, messages in MESSAGES.items():
            some = {**ten, "messages": messages, "window": window, "delay": delay}
            yield f"all online, all, {window} under way, {delay} ms", {**some, "online": 10}
            yield f"all online, pairs, {window} under way, {delay} ms", {**some, "online": 10, "pairs": 1}
            yield f"one of ten offline, all, {window} under way, {delay} ms", {**some, "online": 9}
        yield f"all ten offline, all, {window} under way", {**ten, "messages": 20000, "window": window}
        yield f"one session, offline, {window} under way", {"publishers": 10, "messages": 20000, "window": window, "subscribers": 1}
    for qos in (0, 1):
        yield f"retained, QoS {qos}, 100 topics, 10 a second each", {"retain": 1, "topics": 100, "rate": 1000, "window": 1000, "qos": qos,
                                                                   "messages": 20000}


def measure(bramble, disk, folder, program, options):
    disk.empty()
    broker = brokers.Broker("bramble", bramble, folder, CONFIG.format(disk=disk.path))
    brokers.warm(program, broker)
    load = brokers.Owed(program, broker.ports[0], **options)
    time.sleep(LAZY)
    block, own = disk.counted(), broker.io("write_bytes")
    played = load.play()
    time.sleep(LAZY if options["messages"] else 30)
    after, own = disk.counted(), broker.io("write_bytes") - own
    load.stop()
    broker.stop()
    end = disk.counted()
    return played, own, after[0] - block[0], end[0] - block[0], after[1] - block[1]


def row(title, figures):
    (messages, seconds, median, late, _, _), own, block, end, flushes = figures
    per = max(messages, 1000) / 1000 * 1024  # bytes to KiB per 1000
    cells = [f"{own / per:.1f}", f"{block / per:.1f}", f"{end / per:.1f}", f"{flushes}", f"{messages}",
             f"{messages / seconds:.0f}" if messages else "-", f"{median / 1000:.2f} / {late / 1000:.2f}"]
    print(f"| {title} | " + " | ".join(cells) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bramble", nargs="?", default=brokers.BRAMBLE)
    parser.add_argument("--only", default="", help="cases whose title has this text")
    args = parser.parse_args()
    brokers.many_descriptors()
    with tempfile.TemporaryDirectory() as folder:
        program = brokers.load_program("owed", folder)
        disk = brokers.Disk(folder)
        try:
            if not disk.number:
                print("No loop device (root?): no block counters, only write_bytes counts.\n")
            print("KiB are per 1000 messages; write_bytes and block until all is written, then the block's with the daemon's end.\n")
            print("| what | write_bytes, KiB | block, KiB | with the end, KiB | flushes | messages | a second | ack, ms: median / 99th |\n"
                  "|---|---|---|---|---|---|---|---|")
            for title, options in cases():
                if args.only in title:
                    row(title, measure(os.path.abspath(args.bramble), disk, folder, program, options))
        finally:
            disk.close()


main()
