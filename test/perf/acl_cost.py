#!/usr/bin/python3
"""What a check of the ACL costs with 10 rules and with 100,000: instructions, counted by valgrind's callgrind.

    test/perf/acl_cost.py [LIBRARY]     (default build/libbramble.a; needs gcc and valgrind)

Prints a Markdown table. The instructions of one check are the difference between a run of 200,000 checks and one without any.
Loading costs a little more or less each time (the hash has a random seed), hence so many. Nothing here passes or fails.
"""
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
COUNTS = (10, 100_000)
CHECKS = 200_000
QUESTION = ("mary", "c1", "site/7/hall/lamp/7/state")
LIMITS = ["qos 1", "retain no", "clientid %u-*", "clientid c?", "address 10.0.0.0/8"]
SHAPES = {  # those that do not begin with their action ask for receiving
    "topics of one user": lambda n: ["user mary"] + [f"topic read site/7/hall/lamp/{i}/state" for i in range(n)],
    "topics with + and # of one user": lambda n: ["user mary"] + [f"topic read site/{i}/+/lamp/#" for i in range(n)],
    "users with a topic each": lambda n: [line for i in range(n // 2) for line in (f"user u{i}", f"topic read own/u{i}/#")]
    + ["user mary", "topic read site/7/#"],
    "patterns": lambda n: [f"pattern read site/{i}/%u/#" for i in range(n - 1)] + ["pattern read site/7/hall/lamp/+/state"],
    "deny beside read": lambda n: ["user mary", "topic read #"] + [f"topic deny site/7/hall/lamp/{i}/secret" for i in range(n)],
    "publish: topics of one user": lambda n: ["user mary"] + [f"topic write site/7/hall/lamp/{i}/state" for i in range(n)],
    "publish: users with limits and a topic each": lambda n: [line for i in range(n // 2) for line in (
        f"user u{i}", "qos 1", f"topic write own/u{i}/#")] + ["user mary", *LIMITS, "topic write site/7/#"],
    "connect: users with limits each": lambda n: [line for i in range(n // 2) for line in (
        f"user u{i}", "clientid %u", "address unix")] + ["user mary", *LIMITS],
}


def instructions(program, file, checks, action):
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", program, file, str(checks), *QUESTION, action]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=True)
    assert int(done.stdout) == checks, "the answer should be yes"
    return int(re.search(r"Collected : (\d+)", done.stderr)[1])


def main():
    library = sys.argv[1] if len(sys.argv) > 1 else ROOT / "build/libbramble.a"
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/acl_check"
        subprocess.run(["gcc", "-O2", "-flto=auto", "-D_GNU_SOURCE", "-I", ROOT, "-o", program, ROOT / "test/perf/acl_check.c", library,
                        "-lsodium", "-lpthread"], check=True)
        print("| rules | " + " | ".join(f"{n:,}" for n in COUNTS) + " |\n|---|" + "---|" * len(COUNTS))
        for shape, lines in SHAPES.items():
            row = []
            action = shape.split(":")[0] if ":" in shape else "receive"
            for n in COUNTS:
                file = pathlib.Path(folder, "acl")
                file.write_text("\n".join(lines(n)) + "\n")
                file.chmod(0o600)
                row.append((instructions(program, file, CHECKS, action) - instructions(program, file, 0, action)) / CHECKS)
            print(f"| {shape} | " + " | ".join(f"{value:.0f}" for value in row) + " |")


if __name__ == "__main__":
    main()
