"""What the compiler and the linker were told to put in a mistake's way is in the program: see .ci/hardening.

Read with readelf from the program itself, for the machine it was built for. A build with sanitizers is not one that
anybody runs: of it only the first tests are asked.
"""

import functools
import re
import subprocess

import pytest

from bramble import PROGRAM, SANITIZED

X86, ARM64 = "X86-64", "AArch64"


@functools.cache
def readelf(*options, path=PROGRAM):
    return subprocess.run(["readelf", "--wide", *options, path], check=True, capture_output=True, text=True).stdout


def machine():
    return re.search(r"Machine: +(.*)", readelf("--file-header"))[1].split()[-1]


def dynamic():
    """The tags of the dynamic section, with what stands behind them."""
    return re.findall(r"^ *0x[0-9a-f]+ \((\w+)\) +(.*)", readelf("--dynamic"), re.M)


def segments(kind=r"\w+"):
    """(kind, address, size in memory, flags as "R E")."""
    lines = re.findall(rf"^ +({kind}) +0x\w+ (0x\w+) 0x\w+ 0x\w+ (0x\w+) ([RWE ]{{3}}) ", readelf("--program-headers"), re.M)
    return [(kind, int(address, 16), int(size, 16), flags) for kind, address, size, flags in lines]


def test_loaded_at_any_address():
    assert re.search(r"Type: +DYN ", readelf("--file-header"))
    assert any(tag == "FLAGS_1" and "PIE" in value.split() for tag, value in dynamic())


def test_nothing_writable_is_executable():
    assert len(segments("LOAD")) >= 2
    for kind, address, _, flags in segments():
        assert not ("W" in flags and "E" in flags), f"{kind} at {address:#x} is {flags}"
    assert [flags for *_, flags in segments("GNU_STACK")] == ["RW "]


def test_no_text_relocations():
    """Code that the loader would have to write to."""
    for tag, value in dynamic():
        assert tag != "TEXTREL" and not (tag == "FLAGS" and "TEXTREL" in value)


def test_libraries_come_from_where_the_system_says():
    assert [tag for tag, _ in dynamic() if tag in ("RPATH", "RUNPATH")] == []
    assert any(tag == "NEEDED" and "libc.so" in value for tag, value in dynamic())


def producers():
    """How gcc was called for each file in the program, those of the libraries inside included: {options: how often}."""
    found = re.findall(r"DW_AT_producer +: .*?(GNU C\d+ .*)", readelf("--debug-dump=info"))
    return {options: found.count(options) for options in set(found)}


def symbols():
    return set(re.findall(r" (\w+)@", readelf("--dyn-syms")))


def properties(path=PROGRAM):
    """What the notes say: IBT, SHSTK; BTI, PAC."""
    return set(re.findall(r"\b(IBT|SHSTK|BTI|PAC)\b", readelf("--notes", path=path)))


if not SANITIZED:

    def test_addresses_of_functions_are_read_only():
        """Full RELRO: all is bound at the start, then the tables are write protected."""
        assert any(tag == "FLAGS" and "BIND_NOW" in value for tag, value in dynamic())
        [(_, start, size, _)] = segments("GNU_RELRO")
        sections = re.findall(r"\] +(\.\S+) +\w+ +([0-9a-f]{16}) \w+ ([0-9a-f]+) ", readelf("--sections"))
        tables = {name: (int(at, 16), int(n, 16)) for name, at, n in sections
                  if name in (".got", ".got.plt", ".init_array", ".dynamic")}
        assert {".got", ".init_array", ".dynamic"} <= set(tables)
        for name, (at, n) in tables.items():
            assert start <= at and at + n <= start + size, f"{name} stays writable"

    def test_canaries_and_checked_functions():
        assert "__stack_chk_fail" in symbols()
        checked = {name for name in symbols() if name.endswith("_chk")}
        assert {"__memcpy_chk", "__snprintf_chk", "__vsnprintf_chk"} <= checked

    MACHINE_OPTION = {X86: ["-fcf-protection"], ARM64: ["-mbranch-protection=standard"]}.get(machine(), [])

    @pytest.mark.parametrize("option", ["-O2", "-fPIE", "-fstack-protector-strong", "-fstack-clash-protection",
                                        "-ftrivial-auto-var-init=zero", *MACHINE_OPTION])
    def test_every_file_was_compiled_with(option):
        """gcc leaves its options in the debugging information (clang does not), so this sees each single file."""
        assert sum(producers().values()) > 100
        without = {options: n for options, n in producers().items()
                   if not any(word == option or word.startswith(option + "=") for word in options.split())}
        assert not without, f"without {option}: {without}"

    def test_marks_of_the_processor():
        """The linker sets a mark when every part has it. Of these the start files of the C library are not ours; where
        they have none, code has them all the same, and a shadow stack is asked for by name."""
        files = ("Scrt1.o", "crti.o", "crtn.o")
        paths = [subprocess.run(["gcc", f"-print-file-name={name}"], check=True, capture_output=True, text=True).stdout.strip()
                 for name in files]
        libc = set.intersection(*(properties(path) for path in paths))
        if machine() == X86:
            assert properties() >= libc | {"SHSTK"}
            assert "endbr64" in first_instruction("main")
        elif machine() == ARM64:
            assert properties() >= libc
            assert re.search(r"\b(paciasp|bti)\b", first_instruction("main"))

    def first_instruction(function):
        done = subprocess.run(["objdump", "--disassemble=" + function, "--no-show-raw-insn", PROGRAM], check=True,
                              capture_output=True, text=True).stdout
        return done.split(f"<{function}>:\n")[1].splitlines()[0]
