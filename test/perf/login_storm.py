#!/usr/bin/python3
"""A thousand clients log in with passwords at once: bramble beside the distribution's mosquitto, in turns, in one run.

    test/perf/login_storm.py [BRAMBLE] [--runs N] [--clients N] [--one-address] [--only TEXT]    (default build/bramble; needs
                                                         mosquitto, mosquitto_passwd, gcc, root or a broker of one's own)

Prints a Markdown table. Both brokers have the same configuration: one plain listener, a password file, TCP_NODELAY, no log. All
users of a storm have the same password and the same entry (making 1000 argon2id hashes takes long; a verification costs the
same). Every client comes from an address of its own in 127.0.0.0/8, unless --one-address. The storm is login_storm.c;
meanwhile ten clients that were there before talk at 500 messages a second (talk.c, at a higher priority where that is
allowed: they stand for other machines). A client that is refused with CONNACK 3, or cut, tries again a second later.

Seconds and CPU are the minimum of the runs (noise only adds), latencies those of all runs' messages together, memory the
median. That the clients are in is seen by the load (CONNACK 0) and, as open descriptors, at the broker; else it fails. A storm
ends after 120 seconds even if some are not in; no time fails.
"""
import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import brokers

CONFIG = "set_tcp_nodelay true\nlistener\nallow_anonymous false\npassword_file {passwd}\n"
PASSWORD = "a password of 24 letters"
TALKERS, MESSAGES_PER_SECOND = 10, 500
LIMIT = 120  # seconds, as in login_storm.c
QUIET, SETTLE = 2, 12  # seconds of talk before the storm; until memory is looked at after it
MOSQUITTO = shutil.which("mosquitto") or "/usr/sbin/mosquitto"


# ---- password entries: (what stands behind "user:" in the file, the password)

def entry(path, password):
    with open(path, encoding="ascii") as f:
        return f.read().split(":", 1)[1].strip(), password


def by_tool(folder, *command):
    path = os.path.join(folder, "made")
    subprocess.run([*command, "-c", "-b", path, "user", PASSWORD], check=True, stderr=subprocess.DEVNULL)
    return entry(path, PASSWORD)


def by_token(folder, bramble):
    path = os.path.join(folder, "made")
    if os.path.exists(path):
        os.unlink(path)
    done = subprocess.run([bramble, "passwd", "-c", "--token", path, "user"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          check=False)
    return entry(path, done.stdout.strip()) if done.returncode == 0 else None


def has_cache(bramble):
    with open(bramble, "rb") as f:
        return b"auth_cache\0" in f.read()


# ---- one storm

class Storm:
    """What was measured of one kind of storm, a value for each run."""

    def __init__(self):
        self.values = {}
        self.calm, self.during = [], []

    def note(self, name, value):
        self.values.setdefault(name, []).append(value)


def settled(broker):
    time.sleep(SETTLE)
    return broker.status("VmRSS")


def measure(storm, broker, load, talk, clients):
    talk.ask("")
    time.sleep(QUIET)
    storm.calm += map(int, talk.ask(""))
    storm.note("before", broker.status("VmRSS"))
    broker.forget_peak()
    descriptors, cpu = broker.descriptors(), broker.cpu()
    answer = load.ask("in")
    storm.during += map(int, talk.ask(""))
    for name, before, after in zip(("first", "others"), cpu, broker.cpu()):
        storm.note(name, after - before)
    storm.note("peak", broker.status("VmHWM"))
    for name, value in zip(("seconds", "accepted", "refused", "cut", "median"), answer[1:]):
        storm.note(name, float(value))
    if broker.descriptors() - descriptors < int(answer[2]) or (float(answer[1]) < LIMIT and int(answer[2]) != clients):
        sys.exit(f"{broker.name}: of {clients} clients {answer[2]} say they are in, and it has "
                 f"{broker.descriptors() - descriptors} connections")
    storm.note("with", settled(broker))
    load.ask("out")
    storm.note("after", settled(broker))
    storm.note("anonymous", broker.status("RssAnon"))


def play(name, command, made, storms, args, folder):
    """One broker, a storm for each of storms."""
    passwd = os.path.join(folder, "passwd")
    with open(passwd, "w", encoding="ascii") as f:
        os.fchmod(f.fileno(), 0o600)
        f.writelines(f"{user}:{made[0]}\n" for user in ["talk", *(f"u{i}" for i in range(args.clients))])
    broker = brokers.Broker(name, command, folder, CONFIG.format(passwd=passwd))
    port = broker.ports[0]
    talk = brokers.Load(args.talk, port, TALKERS, MESSAGES_PER_SECOND, "talk", made[1], nice=-10)
    load = brokers.Load(args.load, port, args.clients, made[1], int(args.one_address))
    for storm in storms:
        measure(storm, broker, load, talk, args.clients)
    load.stop()
    talk.stop()
    broker.stop()


# ---- the table

def milliseconds(latencies):
    ordered = sorted(latencies)
    return [ordered[min(len(ordered) - 1, int(len(ordered) * part))] / 1000 for part in (0.5, 0.99, 1)]


def figures(storm):
    least = {name: min(values) for name, values in storm.values.items()}
    middle = {name: statistics.median(values) for name, values in storm.values.items()}
    cells = {
        "clients in": f"{min(storm.values['accepted']):.0f}",
        "after seconds: half of those, the last": f"{least['median']:.2f} / {least['seconds']:.2f}",
        "logins per second": f"{least['accepted'] / least['seconds']:.0f}",
        "CONNACK 3 / cut, each tried again (median)": f"{middle['refused']:.0f} / {middle['cut']:.0f}",
        "CPU, seconds: first thread / others": f"{least['first']:.3f} / {least['others']:.3f}",
    }
    for name, latencies in (("before", storm.calm), ("meanwhile", storm.during)):
        cells[f"latency of others {name}, ms: median / 99th / longest"] = " / ".join(f"{v:.2f}" for v in milliseconds(latencies))
    for name, title in (("before", "before"), ("peak", "at the highest"), ("with", "with all connected"), ("after", "after all have gone")):
        cells[f"resident memory {title}, KiB"] = f"{middle[name]:.0f}"
    cells["of that anonymous, KiB"] = f"{middle['anonymous']:.0f}"
    return cells


def print_table(storms):
    columns = {title: figures(storm) for title, storm in storms.items() if storm.values}
    print("| | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    for row in next(iter(columns.values())):
        print(f"| {row} | " + " | ".join(cells[row] for cells in columns.values()) + " |")


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("bramble", nargs="?", default=brokers.BRAMBLE)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--one-address", action="store_true")
    parser.add_argument("--only", default="", help="columns whose title has this text")
    return parser.parse_args()


def main():
    args = arguments()
    bramble = os.path.abspath(args.bramble)
    brokers.many_descriptors()
    with tempfile.TemporaryDirectory() as folder:
        args.talk, args.load = brokers.load_program("talk", folder), brokers.load_program("login_storm", folder)
        pbkdf2 = by_tool(folder, "mosquitto_passwd")
        kinds = [("mosquitto, its default ($7$)", MOSQUITTO, pbkdf2),
                 ("bramble, the same file", bramble, pbkdf2),
                 ("bramble, argon2id", bramble, by_tool(folder, bramble, "passwd", "-H", "argon2id")),
                 ("bramble, tokens", bramble, by_token(folder, bramble))]
        storms = {}
        for title, command, made in kinds:
            storms[title] = Storm()
            if command == bramble and made and made[0].startswith("$argon2id$"):
                storms[title + ", cache warm"] = Storm()
                if not has_cache(bramble):
                    print("no auth_cache here: the warm storm is left out", file=sys.stderr)
            if not made:
                print(f"{title}: this bramble cannot make them: left out", file=sys.stderr)
        for _ in range(args.runs):
            for title, command, made in kinds:
                if made and args.only in title:
                    warm = storms.get(title + ", cache warm") if has_cache(bramble) else None
                    play(os.path.basename(command), command, made, [storms[title], *([warm] if warm else [])], args, folder)
    print_table(storms)


if __name__ == "__main__":
    main()
