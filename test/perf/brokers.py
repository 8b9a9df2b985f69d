"""What the scripts of this folder share: a broker that runs, and what the system says about it; the load programs."""
import atexit
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


class Load:
    """A load program that does one thing for each line it gets."""

    def __init__(self, *command, nice=0):
        def prefer():
            try:
                os.nice(nice)
            except PermissionError:
                pass
        self.name = command[0]
        self.process = subprocess.Popen([str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        preexec_fn=prefer)

    def read(self):
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"{self.name} ended with status {self.process.wait()}")
        return answer.split()

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.read()

    def stop(self):
        self.process.stdin.close()
        if self.process.wait() != 0:
            sys.exit(f"{self.name} ended with status {self.process.returncode}")


class Owed(Load):
    """owed.c; it has connected all when this returns."""

    def __init__(self, program, port, **options):
        super().__init__(program, port, *(f"{name}={value}" for name, value in options.items()))
        if self.read() != ["ready"]:
            sys.exit("owed is not ready")

    def play(self):
        """Messages, seconds, latencies of acknowledgements in microseconds (median, 99th percentile, longest), deliveries."""
        values = self.ask("go")
        return [int(values[0]), float(values[1]), *map(int, values[2:])]


def warm(program, broker):
    """Writes so much that the store's files have their size and are written to again: from then on it is as it will be for long."""
    load = Owed(program, broker.ports[0], publishers=10, messages=40000, retain=1, topics=100, root=1)
    load.play()
    load.stop()


class Disk:
    """A file system whose writes can be counted: for root an ext4 in an image on a loop device, else just a folder."""

    def __init__(self, folder, megabytes=2048):
        self.path = os.path.join(folder, "disk")
        os.mkdir(self.path)
        self.device = self.number = None
        if os.geteuid() != 0:
            return
        image = os.path.join(folder, "image")
        with open(image, "wb") as f:
            f.truncate(megabytes << 20)
        made = subprocess.run(["losetup", "-f", "--show", image], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
        if made.returncode != 0:
            return
        self.device = made.stdout.strip()
        subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", self.device], check=True)
        subprocess.run(["mount", "-o", "noatime", self.device, self.path], check=True)
        self.number = subprocess.run(["mountpoint", "-d", self.path], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()

    def counted(self):
        """Bytes that the device was given to write, and flushes, after all that is in memory was written; (0, 0) without a device."""
        subprocess.run(["sync", "-f", self.path], check=True)
        if not self.number:
            return 0, 0
        with open(f"/sys/dev/block/{self.number}/stat", encoding="ascii") as f:
            fields = [int(field) for field in f.read().split()]
        return fields[6] * 512, fields[15] if len(fields) > 15 else 0

    def empty(self):
        for name in os.listdir(self.path):
            if name != "lost+found":
                os.unlink(os.path.join(self.path, name))

    def close(self):
        """Also when a program that has failed to end still uses it."""
        if self.device:
            subprocess.run(["umount", "--lazy", self.path], check=True)
            subprocess.run(["losetup", "-d", self.device], check=True)


def instructions(broker_class, folder, play):
    """What callgrind counts of a whole life: broker_class(command) makes the broker, play(broker) uses and stops it."""
    log = os.path.join(folder, "callgrind.log")
    play(broker_class(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", f"--log-file={log}"]))
    with open(log, encoding="utf-8", errors="replace") as f:
        return int(re.search(r"Collected : (\d+)", f.read())[1])


class Broker:
    """A broker with this configuration; `listener` lines without a port get a free one, in turn in .ports."""

    def __init__(self, name, command, folder, config):
        self.name = name
        self.ports = []
        conf = os.path.join(folder, name + ".conf")
        with open(conf, "w", encoding="ascii") as f:
            f.write("user root\nlog_dest none\n" + re.sub(r"(?m)^listener$", self.listener, config))
        command = [command] if isinstance(command, str) else command
        self.process = subprocess.Popen([*command, "-c", conf], stderr=subprocess.DEVNULL)
        self.pid = self.process.pid
        atexit.register(self.process.kill)
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

    def io(self, name):
        """Bytes: write_bytes (to the block layer, in pages), wchar (what it asked to write)."""
        with open(f"/proc/{self.pid}/io", encoding="ascii") as f:
            return next(int(line.split()[1]) for line in f if line.startswith(name + ":"))

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def stop(self):
        self.process.terminate()
        self.process.wait()
