#!/usr/bin/python3
"""First figures: bramble beside the distribution's mosquitto, in turns, in one run.

    test/perf/figures.py [BRAMBLE]      (default build/bramble; needs mosquitto, gcc, a quiet machine)

Prints a Markdown table: CPU per delivered message with one publisher and 100 subscribers (64 B, QoS 0; the load is
test/perf/fanout.c), resident memory at start and per idle plain and TLS client, binary size. The minimum of the runs counts:
noise only adds. Nothing here passes or fails.
"""
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time

import brokers

RUNS = 7
CONNECT = bytes([0x10, 12, 0, 4]) + b"MQTT" + bytes([4, 2, 0, 0, 0, 0])
SUBSCRIBE = bytes([0x82, 10, 0, 1, 0, 5]) + b"b/top" + bytes([0])


class Broker(brokers.Broker):
    def __init__(self, name, command, folder):
        super().__init__(name, command, folder, f"listener\nallow_anonymous true\nlistener\n"
                         f"certfile {folder}/server.crt\nkeyfile {folder}/server.key\n")
        self.plain, self.tls = self.ports

    def rss(self):
        time.sleep(0.5)
        return self.status("VmRSS")

    def fanout(self, program):
        out = subprocess.run([program, str(self.plain), str(self.process.pid), "100", "64", "5000", "1000"], check=True,
                             capture_output=True, text=True).stdout.split()
        return float(out[3])

    def clients(self, count, port, tls):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        sockets = []
        for _ in range(count):
            s = socket.create_connection(("127.0.0.1", port))
            s = context.wrap_socket(s) if tls else s
            s.sendall(CONNECT)
            s.recv(4)
            s.sendall(SUBSCRIBE)
            s.recv(5)
            sockets.append(s)
        return sockets

    def per_client(self, count, port, tls):
        before = self.rss()
        sockets = self.clients(count, port, tls)
        after = self.rss()
        for s in sockets:
            s.close()
        return (after - before) / count


def stripped_size(program, folder):
    subprocess.run(["strip", "-o", folder + "/stripped", program], check=True)
    return os.path.getsize(folder + "/stripped") / 1024


def main():
    bramble = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else brokers.BRAMBLE)
    brokers.many_descriptors()
    with tempfile.TemporaryDirectory() as folder:
        fanout = brokers.load_program("fanout", folder)
        subprocess.run([bramble, "cert", "init", folder], check=True, stdout=subprocess.DEVNULL)
        pair = [Broker("bramble", bramble, folder), Broker("mosquitto", shutil.which("mosquitto") or "mosquitto", folder)]
        rows = {"resident memory at start, KiB": [b.rss() for b in pair]}
        cpu = [[], []]
        for _ in range(RUNS):
            for i, broker in enumerate(pair):
                cpu[i].append(broker.fanout(fanout))
        rows["CPU per delivered message, 1 to 100, 64 B, QoS 0, ns"] = [min(c) for c in cpu]
        rows["resident memory per idle plain client, KiB"] = [b.per_client(2000, b.plain, False) for b in pair]
        rows["resident memory per idle TLS client, KiB"] = [b.per_client(500, b.tls, True) for b in pair]
        rows["binary without symbols (bramble: mbedTLS and libwebsockets inside), KiB"] = [
            stripped_size(program, folder) for program in (bramble, shutil.which("mosquitto"))]
        for broker in pair:
            broker.stop()
    print("| figure | bramble | mosquitto | ratio |\n|---|---|---|---|")
    for name, (a, b) in rows.items():
        print(f"| {name} | {a:.1f} | {b:.1f} | {a / b:.2f} |")


main()
