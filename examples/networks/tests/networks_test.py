# SPDX-License-Identifier: MIT
"""The program `networks` as a process: its files, resuming, wrong arguments.

    networks_test.py PROGRAM SCRATCH_FOLDER

Exit code 77 (skipped) unless QUANT_DATA names the folder of networks and samples.
"""

import csv
import os
import shutil
import subprocess
import sys
import xml.dom.minidom

program, scratch = sys.argv[1:]
shutil.rmtree(scratch, ignore_errors=True)
os.makedirs(scratch)
failures = 0


def check(holds, what):
    global failures
    failures += not holds
    if not holds:
        print("FAILED:", what)


def run(*arguments, data=True):
    environment = {k: v for k, v in os.environ.items() if data or k != "QUANT_DATA"}
    return subprocess.run([program, *arguments], capture_output=True, text=True, env=environment)


def refused(code, text, *arguments, data=True):
    done = run(*arguments, data=data)
    check(done.returncode == code, f"{arguments}: exit code {done.returncode}, expected {code}: {done.stderr}")
    check(text in done.stderr and done.stderr.count("\n") == 1, f"{arguments}: one line with '{text}': {done.stderr}")


check(run("--help").returncode == 0, "--help")
refused(2, "--frobnicate", "--frobnicate")
refused(2, "samples", "--samples", "0")
refused(2, "threads", "--threads", "0")
refused(2, "QUANT_DATA", data=False)
refused(3, "no-such-folder", "--data", os.path.join(scratch, "no-such-folder"))
if not os.path.isdir(os.environ.get("QUANT_DATA", "")):
    print("the rest is skipped: QUANT_DATA names no folder")
    sys.exit(1 if failures else 77)

refused(2, "lenet", "--networks", "alexnet")
refused(3, "lenet_mnist.onnx", "--data", scratch, "--quick", "--output", os.path.join(scratch, "empty"))
taken = os.path.join(scratch, "a-file")
open(taken, "w").close()
refused(4, "a-file", "--quick", "--output", taken)

out = os.path.join(scratch, "out")
first = run("--quick", "--output", out, "--threads", "1")
check(first.returncode == 0, f"--quick: {first.stderr}")
table = os.path.join(out, "networks.csv")
with open(table) as file:
    text = file.read()
rows = list(csv.DictReader(text.splitlines()))
by_setting = {r["setting"]: r for r in rows}
check({"float", "authors", "integer", "beyond"} <= set(by_setting), f"settings: {set(by_setting)}")
check(by_setting["float"]["top1"] == "1478" and by_setting["float"]["samples"] == "1500", "LeNet's documented accuracy")
for r in rows:
    bits = sum(bin(int(digit, 16)).count("1") for digit in r["right"])
    check(r["note"] or bits == int(r["top1"]), f"{r['setting']}: as many right samples as counted")
    check(float(r["low_95"]) <= float(r["percent"]) <= float(r["high_95"]), f"{r['setting']}: the interval holds the value")
    check(r["setting"] == "float" or int(r["samples"]) == 100, f"{r['setting']}: 100 samples")
with open(os.path.join(out, "networks.md")) as file:
    lines = file.read().splitlines()
check("# Networks" in lines[0] and "## LeNet" in lines, "the page's headings")
tables = [line for line in lines if line.startswith("|")]
blocks = [block for block in "\n".join(lines).split("\n\n") if block.startswith("|")]
check(blocks and all(len({line.count("|") for line in block.splitlines()}) == 1 for block in blocks), "even tables")
picture = xml.dom.minidom.parse(os.path.join(out, "accuracy-lenet.svg"))
check(picture.getElementsByTagName("circle"), "the picture has points")
check(not [f for f in os.listdir(out) if f.startswith(".") or f == "onnxruntime"], f"left behind: {os.listdir(out)}")

# Nothing is computed twice; a row that is missing is, and comes out the same for any number of threads.
again = run("--quick", "--output", out, "--threads", "1")
check(again.returncode == 0 and " s]" not in again.stdout, "everything is there already")
with open(table, "w") as file:
    file.write("".join(line for line in text.splitlines(True) if not line.startswith("lenet,100,integer,all")))
third = run("--quick", "--output", out, "--threads", "2")
check(third.stdout.count(" s]") == 1, f"one row is missing: {third.stdout}")
with open(table) as file:
    restored = sorted((r["method"], r["right"]) for r in csv.DictReader(file) if r["setting"] == "integer")
check(restored == sorted((r["method"], r["right"]) for r in rows if r["setting"] == "integer"), "the same row as before")

with open(table, "a") as file:
    file.write("nonsense\n")
refused(3, f"line {len(rows) + 2}", "--quick", "--output", out)
with open(table, "w") as file: # more samples than their digits, however many that are
    file.write(text.splitlines(True)[0] + f"lenet,{2**64 - 1},float,none,32,32,0,,32,0,0,0,0,0,0,0,1,0,,\n")
refused(3, "line 2", "--quick", "--output", out)
sys.exit(1 if failures else 0)
