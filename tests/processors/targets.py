# SPDX-License-Identifier: MIT
"""The processors that can be had here, their compilers and emulators."""
import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DEPS = Path(os.environ.get("QUANT_DEPS_DIR", ROOT / "build" / "deps"))


@dataclass
class Target:
    """A processor: its name, the compilers that make code for it with their options, how its programs run."""
    name: str
    compilers: list
    options: str = ""
    run: list = field(default_factory=list)
    fused: bool = False  # it multiplies and adds with one rounding, so contraction can change bytes
    needs: tuple = ()  # flags of /proc/cpuinfo
    gate: str = ""  # the compiler of the gate's row
    tests: str = ""  # options that unit tests need besides
    newer_qemu: str = ""  # the compiler whose code releases before NEWER_QEMU emulate wrongly


# Debian 12's release, 7.2, is wrong where a row says so, and this one right. Those between were not tried.
NEWER_QEMU = 10


def clang(triple, command="clang++"):
    return f"{command} --target={triple}"


def emulated(name, *options):
    newer = DEPS / "qemu" / "usr" / "bin" / f"qemu-{name}"  # .ci/setup unpacks a newer release than Debian 12's
    found = str(newer) if newer.exists() else shutil.which(f"qemu-{name}-static") or shutil.which(f"qemu-{name}")
    return [found or f"qemu-{name}-static", *options]


X86 = ["g++", "clang++"]
AARCH64 = ["aarch64-linux-gnu-g++ -static -Wno-psabi", clang("aarch64-linux-gnu") + " -static"]
ARM = ["arm-linux-gnueabihf-g++ -static -Wno-psabi", clang("arm-linux-gnueabihf") + " -static"]
VNNI = ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512_vnni")
TARGETS = [
    Target("x86-64, no SIMD", X86, "-DQUANT_SIMD=0"),
    Target("x86-64 SSE2", X86),
    Target("x86-64 SSE4.2", X86, "-march=x86-64-v2"),
    Target("x86-64 AVX2 + FMA", X86, "-march=x86-64-v3", fused=True, needs=("avx2", "fma", "bmi2")),
    Target("x86-64 AVX-512 BW", X86, "-march=x86-64-v4", fused=True, needs=VNNI[:-1]),
    Target("x86-64 AVX-512 VNNI", X86, "-march=x86-64-v4 -mavx512vnni", fused=True, needs=VNNI),
    Target("AArch64 NEON", AARCH64, run=emulated("aarch64"), fused=True, gate=AARCH64[1]),
    Target("AArch64 SVE, 256 bits", AARCH64[:1],
           "-march=armv8.2-a+sve -msve-vector-bits=256", emulated("aarch64", "-cpu", "max,sve-max-vq=2"), fused=True),
    Target("Armv7 NEON", ARM, "-march=armv7-a -mfpu=neon-vfpv4", emulated("arm"), fused=True, gate=ARM[1]),
    Target("Armv7, no NEON", ARM[:1], run=emulated("arm")),
    Target("RISC-V vector, 256 bits", [clang("riscv64-linux-gnu", "clang++-19") + " -static"],
           "-march=rv64gcv_zvl256b -mrvv-vector-bits=zvl", emulated("riscv64", "-cpu", "rv64,v=true,vlen=256"), fused=True,
           newer_qemu="clang++-19"),
    Target("RISC-V, no vector", ["riscv64-linux-gnu-g++ -static"], run=emulated("riscv64"), fused=True),
    Target("WebAssembly SIMD", [clang("wasm32-wasi", "clang++-19") + " -fno-exceptions"], "-msimd128 -D__EMSCRIPTEN__",
           ["node", "--no-warnings", str(ROOT / "tests" / "golden" / "run_wasi.mjs")],
           # Catch2 wants the names of files' classes; a stack is 64 KiB unless more is asked for.
           tests=f"-isystem {ROOT / 'tests' / 'processors' / 'wasi'} -Wl,-z,stack-size=8388608"),
    Target("s390x, big-endian", ["s390x-linux-gnu-g++ -static", clang("s390x-linux-gnu") + " -static"],
           run=emulated("s390x"), fused=True, gate="s390x-linux-gnu-g++ -static", newer_qemu="clang++"),
]


@dataclass
class Row:
    """A processor and one of its compilers."""
    target: Target
    compiler: str

    @property
    def compiler_name(self):
        words = self.compiler.split()
        return words[0] if "clang" in words[0] else "g++"

    @property
    def name(self):
        return f"{self.target.name}, {self.compiler_name}"


def qemu_release(program):
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    number = re.search(r"version (\d+)", said)
    return int(number[1]) if number else 0


def missing(row):
    """What keeps a row from running here, or nothing."""
    compiler = row.compiler.split()[0]
    if not shutil.which(compiler):
        return f"no {compiler}"
    if row.target.run and not shutil.which(row.target.run[0]):
        return f"no {Path(row.target.run[0]).name}"
    if row.target.newer_qemu == row.compiler_name and qemu_release(row.target.run[0]) < NEWER_QEMU:
        return f"needs QEMU {NEWER_QEMU}: `bash .ci/setup --processors` unpacks it"
    if row.target.needs and platform.machine() == "x86_64":
        flags = set(re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.M)[1].split())
        lacking = [f for f in row.target.needs if f not in flags]
        if lacking:
            return f"this processor lacks {', '.join(lacking)}"
    return ""


def include_options():
    for directory in (*os.environ.get("CMAKE_PREFIX_PATH", "").replace(";", ":").split(":"), DEPS / "xsimd" / "usr"):
        if directory and (Path(directory) / "include" / "xsimd" / "xsimd.hpp").exists():
            return ["-isystem", str(Path(directory) / "include")]
    # Below /usr/include there is more than xsimd: not what a cross compiler should see.
    system = Path("/usr/include/xsimd")
    if system.exists():
        only = DEPS / "only_xsimd"
        only.mkdir(parents=True, exist_ok=True)
        if not (only / "xsimd").exists():
            (only / "xsimd").symlink_to(system)
        return ["-isystem", str(only)]
    return []


def marked(page, mark):
    """Where the lines between <!-- mark --> and <!-- end of mark --> begin and end."""
    first, last = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    return page.index(first) + len(first), page.index(last)


def read_table(path, mark):
    """The rows that stand between the marks, each a list of cells, without the table's head."""
    page = path.read_text(encoding="utf-8")
    begin, end = marked(page, mark)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page[begin:end].splitlines() if line.startswith("|")]
    return rows[2:]


def write_table(path, mark, lines):
    """Replace what stands in the page between the marks."""
    page = path.read_text(encoding="utf-8")
    begin, end = marked(page, mark)
    path.write_text(page[:begin] + "\n" + "\n".join(lines) + "\n" + page[end:], encoding="utf-8")
