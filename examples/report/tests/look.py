# SPDX-License-Identifier: MIT
"""Looks at reports in a real Chromium, as on a phone and on a desk, light and dark, and printed.

look.py [--keep DIRECTORY] SAMPLES QUANT     pages that `SAMPLES DIRECTORY` writes, and reports of the tool
look.py [--keep DIRECTORY] PAGE.html...      these pages; also pictures: PICTURE.svg...

Fails on script errors, anything asked of the network, texts that overlap or leave the page, sideways scrolling, empty
pictures, lines without a name, markup from names. --keep leaves screenshots there. Exit code 77: Chromium, its driver or Selenium
is not installed, or none of the pages is there (made by a test that was skipped).
"""
import array
import base64
import json
import math
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

try:
    from selenium import webdriver
    from selenium.common.exceptions import WebDriverException
    from selenium.webdriver.chrome.service import Service
except ImportError:
    print("skipped: Selenium is not installed (python3-selenium)")
    sys.exit(77)
chromium = shutil.which("chromium") or shutil.which("google-chrome")
driver_program = shutil.which("chromedriver")
if not chromium or not driver_program:
    print("skipped: Chromium or its driver is not installed (chromium, chromium-driver)")
    sys.exit(77)

# Everything a reader can see must be where it can be read. Runs in the page, returns a list of complaints.
LOOK = r"""
const complaints = [];
const say = (text) => { if (complaints.length < 20) complaints.push(text); };
const width = document.documentElement.clientWidth;
if (document.documentElement.scrollWidth > width) say(`scrolls sideways: ${document.documentElement.scrollWidth} > ${width}`);
for (const f of document.querySelectorAll("figure")) f.style.contentVisibility = "visible";

const boxes = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node; (node = walker.nextNode());) {
  if (!node.textContent.trim() || node.parentElement.closest("script, title, option")) continue;
  const range = document.createRange();
  range.selectNodeContents(node);
  for (const r of range.getClientRects()) {
    if (r.width < 0.5 || r.height < 0.5) continue;
    boxes.push({ node, left: r.left, right: r.right, top: r.top, bottom: r.bottom });
    if (r.left < -0.5 || r.right > width + 0.5) say(`leaves the page: "${node.textContent.trim().slice(0, 60)}"`);
  }
  const cell = node.parentElement.closest("td");
  if (cell) {
    const c = cell.getBoundingClientRect(), r = range.getBoundingClientRect();
    if (r.width && (r.left < c.left - 1 || r.right > c.right + 1)) say(`leaves its cell: "${node.textContent.slice(0, 60)}"`);
  }
}
boxes.sort((a, b) => a.top - b.top);
for (let i = 0; i < boxes.length; ++i) {
  for (let j = i + 1; j < boxes.length && boxes[j].top < boxes[i].bottom - 2; ++j) {
    const a = boxes[i], b = boxes[j];
    // Lines of one text stand closer than their boxes are high; a pixel is no overlap.
    if (a.node === b.node || Math.min(a.right, b.right) - Math.max(a.left, b.left) < 1) continue;
    if (Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) < 2) continue;
    say(`overlap: "${a.node.textContent.trim().slice(0, 60)}" and "${b.node.textContent.trim().slice(0, 60)}"`);
  }
}
for (const svg of document.querySelectorAll("svg")) {
  const drawn = [...svg.querySelectorAll("path, rect, line, text")].filter((e) => {
    const r = e.getBoundingClientRect();
    return r.width > 0 || r.height > 0;
  });
  const r = svg.getBoundingClientRect();
  if (!drawn.length || r.width < 5 || r.height < 5) say(`an empty picture: ${svg.getAttribute("aria-label") || svg.outerHTML.slice(0, 80)}`);
  for (const path of svg.querySelectorAll("path")) {
    if (/NaN|Infinity|inf/.test(path.getAttribute("d"))) say("a path that is none");
  }
}
for (const a of document.querySelectorAll('a[href^="#"]')) {
  if (!document.getElementById(a.getAttribute("href").slice(1))) say(`a link to nowhere: ${a.getAttribute("href")}`);
}
const rows = document.querySelectorAll("#rows tbody tr").length, figures = document.querySelectorAll("figure").length;
if (figures > rows) say(`${figures} histograms of ${rows} rows`);
if (document.querySelectorAll("script").length !== 1 || document.querySelector("img, figure b, td b, td i")) say("a name became markup");
const contrast = (e) => {
  const light = (c) => c.match(/[\d.]+/g).slice(0, 3).map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; })
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const [x, y] = [light(getComputedStyle(e).color), light(getComputedStyle(document.body).backgroundColor)];
  return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
};
for (const e of document.querySelectorAll("h1, p, th, td, dt, .soft")) {
  if (contrast(e) < 4.5) { say(`too faint: ${e.outerHTML.slice(0, 60)}`); break; }
}
return complaints;
"""

# Sorts by every column and filters, by the controls a reader has at this width.
USE = r"""
const complaints = [], table = document.getElementById("rows");
if (!table) return complaints;
const rows = () => [...table.tBodies[0].rows], file = rows().map((r) => r.id).join();
const narrow = getComputedStyle(table.tHead).display === "none", heads = [...table.tHead.rows[0].cells];
const sorter = document.getElementById("sorter");
if (narrow !== (sorter.getClientRects().length > 0)) complaints.push("no control to sort by");
heads.forEach((head, c) => {
  const click = () => head.querySelector("button").click();
  if (narrow) { sorter.value = String(c); sorter.dispatchEvent(new Event("change")); } else click();
  const keys = rows().map((r) => r.cells[c].dataset.key).filter((k) => k !== undefined && k !== "");
  if (head.classList.contains("number") && keys.some((k, i) => i && Number(keys[i - 1]) > Number(k))) complaints.push(`not sorted by column ${c}`);
  if (!narrow) {
    click();
    const down = rows().map((r) => r.cells[c].dataset.key).filter((k) => k !== undefined && k !== "");
    if (head.classList.contains("number") && down.some((k, i) => i && Number(down[i - 1]) < Number(k))) complaints.push(`not sorted down by column ${c}`);
    click();
  } else { sorter.value = ""; sorter.dispatchEvent(new Event("change")); }
  if (rows().map((r) => r.id).join() !== file) complaints.push("the order of the file is lost");
});
const filter = document.getElementById("filter");
if (filter) {
  const name = rows()[1].cells[0].textContent.toLowerCase();
  filter.value = name;
  filter.dispatchEvent(new Event("input"));
  const left = rows().filter((r) => r.getClientRects().length);
  if (!left.length || left.some((r) => !r.cells[0].textContent.toLowerCase().includes(name))) complaints.push("the filter lets others through");
  filter.value = "";
  filter.dispatchEvent(new Event("input"));
  if (rows().some((r) => !r.getClientRects().length)) complaints.push("the filter does not let go");
}
return complaints;
"""

# Pictures of lines: every line has its name, every text is there, inside, and stands out.
PICTURE = r"""
const complaints = [], svg = document.querySelector("svg");
if (!document.body.dataset.picture) return complaints;
const all = (what) => [...svg.querySelectorAll(what)], box = svg.getBoundingClientRect();
const drawn = all(".line, .reference").length;
if (!all(".line").length || drawn !== all(".name").length) complaints.push(`${drawn} lines, ${all(".name").length} names`);
const light = (c) => c.match(/[\d.]+/g).slice(0, 3).map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; })
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const contrast = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
const paper = light(getComputedStyle(svg.querySelector(".paper")).fill);
if ((paper < 0.5) !== matchMedia("(prefers-color-scheme: dark)").matches) complaints.push("the paper is not the reader's");
for (const e of all("text, circle")) {
  const r = e.getBoundingClientRect(), what = e.textContent || "a point";
  if (r.width < 1 || r.height < 1) complaints.push(`nothing to see of "${what}"`);
  if (r.left < box.left || r.right > box.right || r.top < box.top || r.bottom > box.bottom) complaints.push(`leaves the picture: ${what}`);
  if (contrast(light(getComputedStyle(e).fill), paper) < (e.tagName === "text" ? 4.5 : 2.5)) complaints.push(`too faint: ${what}`);
  if (e.tagName === "text" && r.height < 9) complaints.push(`too small: ${what}`);
}
return complaints;
"""


def as_page(picture, folder):
    """A page with nothing but the picture."""
    page = folder / f"{picture.stem}.svg.html"
    page.write_text('<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
                    "<style>:root{color-scheme:light dark}body{margin:8px;background:#fff}"
                    "@media(prefers-color-scheme:dark){body{background:#000}}</style>"
                    f'<script></script><body data-picture="1">{picture.read_text()}')
    return page


def start(profile):
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
                     "--no-first-run", "--disable-extensions", "--disable-background-networking",
                     "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(service=Service(driver_program), options=options)


def look(driver, page, keep):
    """Complaints about one page."""
    found = []
    driver.get("about:blank")
    driver.get_log("performance"), driver.get_log("browser")  # what the browser did for itself
    for width, height, phone in ((390, 844, True), (1280, 900, False)):
        for scheme in ("light", "dark"):
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                                   {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone})
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
            driver.get(page.as_uri())
            complaints = driver.execute_script(LOOK) + driver.execute_script(PICTURE) + (driver.execute_script(USE) if scheme == "light" else [])
            paper = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
            dark = int(paper.split("(")[1].split(",")[0]) < 128
            if dark != (scheme == "dark"):
                complaints.append(f"the paper is {paper}")
            complaints += [entry["message"] for entry in driver.get_log("browser")]
            found += [f"{page.name}, {width} pixels, {scheme}: {c}" for c in complaints]
            if keep:
                size = driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
                shot = driver.execute_cdp_cmd("Page.captureScreenshot", {
                    "captureBeyondViewport": True,
                    "clip": {"x": 0, "y": 0, "width": width, "height": min(size["height"], 4000), "scale": 1}})
                (keep / f"{page.stem}-{width}-{scheme}.png").write_bytes(base64.b64decode(shot["data"]))
    asked = [e["message"] for e in driver.get_log("performance") if '"Network.requestWillBeSent"' in e["message"]]
    found += [f"{page.name}: asks for {a[:200]}" for a in asked if '"url":"file://' not in a]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    printed = base64.b64decode(driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    if not printed.startswith(b"%PDF") or len(printed) < 5000:
        found.append(f"{page.name}: nothing to print")
    if keep:
        (keep / f"{page.stem}.pdf").write_bytes(printed)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    return found


def model(path, spread, names):
    """A .safetensors file of 32-bit numbers, two-sided exponentials."""
    numbers, header, data = random.Random(1), {}, b""
    for i, name in enumerate(names):
        shape = [8, 5 + i, 3, 3] if i % 3 != 2 else [40]
        values = array.array("f", (numbers.expovariate(1) * numbers.choice((-spread, spread)) for _ in range(math.prod(shape))))
        raw = values.tobytes()
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def network(path, hidden):
    """An ONNX classifier of 12 numbers and 4 classes: Gemm, Relu, Gemm; protobuf by hand."""
    def varint(value):
        out = b""
        while value > 127:
            out, value = out + bytes([value & 127 | 128]), value >> 7
        return out + bytes([value])

    field = lambda number, content: varint(number << 3 | 2) + varint(len(content)) + content
    number = lambda at, value: varint(at << 3) + varint(value)
    numbers = random.Random(2)
    tensor = lambda name, *shape: field(5, b"".join(number(1, e) for e in shape) + number(2, 1) + field(8, name) + field(
        9, array.array("f", (numbers.gauss(0, 1) for _ in range(math.prod(shape)))).tobytes()))
    node = lambda kind, inputs, output: field(1, b"".join(field(1, i) for i in inputs) + field(2, output) + field(4, kind))
    value = lambda name, extent: field(1, name) + field(2, field(1, number(1, 1) + field(
        2, field(1, field(2, b"N")) + field(1, number(1, extent)))))
    graph = (node(b"Gemm", [b"in", b"w1", b"b1"], b"features/<b>first") + node(b"Relu", [b"features/<b>first"], b"features/relu") +
             node(b"Gemm", [b"features/relu", b"w2"], b"out") + field(2, b"g") + tensor(b"w1", 12, hidden) + tensor(b"b1", hidden) +
             tensor(b"w2", hidden, 4) + field(11, value(b"in", 12)) + field(12, value(b"out", 4)))
    path.write_bytes(number(1, 7) + field(8, field(1, b"") + number(2, 13)) + field(7, graph))


def npy(path, kind, shape, content):
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    path.write_bytes(b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + content)


def reports_of_networks(quant, directory):
    """Pages about ONNX models; none where the tool was built without what they need."""
    numbers = random.Random(3)
    network(directory / "net.onnx", 100)
    npy(directory / "x.npy", "<f4", (40, 12), array.array("f", (numbers.gauss(0, 1) for _ in range(480))).tobytes())
    npy(directory / "y.npy", "|u1", (40,), bytes(numbers.randrange(4) for _ in range(40)))

    def run(*arguments):
        done = subprocess.run([quant, *arguments, "--quiet"], cwd=directory, capture_output=True, text=True)
        assert done.returncode == 0 or "was built without" in done.stderr, (arguments, done.stderr)
        return done.returncode == 0

    if not run("quantize", "net.onnx", "-o", "net8.onnx", "--activations", "8", "--calibrate", "x.npy", "--report", "quantize-net.html"):
        return
    run("compare", "net.onnx", "net8.onnx", "--inputs", "x.npy", "--samples", "1", "--report", "compare-net.html")
    text = (directory / "compare-net.html").read_text()
    assert "on 1 sample" in text and "on 1 samples" not in text
    images = ("--images", "x.npy", "--labels", "y.npy", "--report")
    run("evaluate", "net8.onnx", *images, "evaluate-net.html")
    run("quantize", "net.onnx", "-o", "beside.onnx", "--external-data")
    run("evaluate", "beside.onnx", "--against", "net.onnx", *images, "evaluate-two.html")
    # The size is that of both files: 1200 codes stand beside the model.
    assert (directory / "beside.onnx.data").stat().st_size == 1200
    size = sum(p.stat().st_size for p in directory.glob("beside.onnx*"))
    assert (f"{size} B" if size < 1024 else f"{size / 1024:.2f} KiB") in (directory / "evaluate-two.html").read_text(), size


def reports(quant, directory):
    """Pages of the tool."""
    names = [f"features.{i}.{part}" for i in range(5) for part in ("conv.weight", "project.weight", "bias")]
    model(directory / "m.safetensors", 0.1, names + ["</script><b>x"])
    model(directory / "none.safetensors", 1, [])

    def run(*arguments):
        subprocess.run([quant, *arguments, "--quiet"], cwd=directory, check=True)

    run("quantize", "m.safetensors", "-o", "q.safetensors", "--bits", "4", "--average-bits", "4", "--bias-correct", "--report",
        "quantize.html")
    run("quantize", "m.safetensors", "-o", "u.npz", "--unsigned", "--report", "it's $5 <b>.html")
    run("quantize", "none.safetensors", "-o", "none-q.safetensors", "--report", "quantize-none.html")
    run("compare", "m.safetensors", "q.safetensors", "--report", "compare.html")
    run("compare", "none.safetensors", "none.safetensors", "--report", "compare-none.html")
    existing = (directory / "compare.html").read_bytes()
    for refused in (["--report", "compare.html"], ["--report", "q.safetensors", "--force"], ["--report", "no/where.html"]):
        failed = subprocess.run([quant, "compare", "m.safetensors", "q.safetensors", *refused], cwd=directory, capture_output=True)
        assert failed.returncode in (2, 4) and not failed.stdout and failed.stderr.count(b"\n") == 1, (refused, failed)
    assert (directory / "compare.html").read_bytes() == existing
    run("compare", "m.safetensors", "q.safetensors", "--report", "compare.html", "--force")
    assert (directory / "compare.html").read_bytes() != existing  # the command is another


def main():
    arguments, keep = sys.argv[1:], None
    if arguments[:1] == ["--keep"]:
        keep = pathlib.Path(arguments[1])
        keep.mkdir(parents=True, exist_ok=True)
        arguments = arguments[2:]
    with tempfile.TemporaryDirectory(prefix="quant-look-") as scratch:
        pages = [pathlib.Path(a).resolve() for a in arguments]
        if arguments[0].endswith((".html", ".svg")):
            pages = [p for p in pages if p.exists()]
            if not pages:
                print("skipped: no page is there")
                return 77
        else:
            samples, quant = pages
            written = pathlib.Path(scratch) / "pages"
            written.mkdir()
            subprocess.run([samples, written], check=True)
            reports(quant, written)
            reports_of_networks(quant, written)
            pages = sorted([*written.glob("*.html"), *written.glob("*.svg")])
        assert pages, "no page to look at"
        pages = [p if p.suffix == ".html" else as_page(p, pathlib.Path(scratch)) for p in pages]
        try:
            driver = start(pathlib.Path(scratch) / "profile")
        except WebDriverException as failure:
            print(f"skipped: Chromium does not start here: {failure.msg}")
            return 77
        try:
            found = [complaint for page in pages for complaint in look(driver, page, keep)]
        finally:
            driver.quit()
    print(*found, f"{len(pages)} pages looked at, {len(found)} complaints", sep="\n")
    return 1 if found else 0


sys.exit(main())
