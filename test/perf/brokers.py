"""What the scripts of this folder share: a broker that runs, and what the system says about it; the load programs."""
import os
import re
import resource
import socket
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BRAMBLE = os.path.join(ROOT, "build", "bramble")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def many_descriptors():
    """For this process and those that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65536)), hard))


def load_program(name, folder):
    """Builds test/perf/NAME.c."""
    subprocess.run(["gcc", "-O2", "-D_GNU_SOURCE", "-I", ROOT, os.path.join(ROOT, "test/perf", name + ".c"), "-o",
                    os.path.join(folder, name)], check=True)
    return os.path.join(folder, name)


class Broker:
    """A broker with this configuration; `listener` lines without a port get a free one, in turn in .ports."""

    def __init__(self, name, command, folder, config):
        self.name = name
        self.ports = []
        conf = os.path.join(folder, name + ".conf")
        with open(conf, "w", encoding="ascii") as f:
            f.write("user root\nlog_dest none\n" + re.sub(r"(?m)^listener$", self.listener, config))
        self.process = subprocess.Popen([command, "-c", conf], stderr=subprocess.DEVNULL)
        self.pid = self.process.pid
        for port in self.ports:
            self.wait_for(port)

    def listener(self, _):
        self.ports.append(free_port())
        return f"listener {self.ports[-1]} 127.0.0.1"

    def wait_for(self, port):
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                return
            except ConnectionRefusedError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    sys.exit(f"{self.name} does not start")
                time.sleep(0.05)

    def status(self, name):
        """KiB: VmRSS, VmHWM (the highest VmRSS since forget_peak()), RssAnon."""
        with open(f"/proc/{self.pid}/status", encoding="ascii") as f:
            return next(int(line.split()[1]) for line in f if line.startswith(name + ":"))

    def forget_peak(self):
        with open(f"/proc/{self.pid}/clear_refs", "w", encoding="ascii") as f:
            f.write("5")

    def cpu(self):
        """Seconds on the CPU, user and kernel: the first thread and all others together."""
        seconds = [0.0, 0.0]
        for thread in os.listdir(f"/proc/{self.pid}/task"):
            with open(f"/proc/{self.pid}/task/{thread}/schedstat", encoding="ascii") as f:
                seconds[int(thread) != self.pid] += int(f.read().split()[0]) / 1e9
        return seconds

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def stop(self):
        self.process.terminate()
        self.process.wait()
