#!/usr/bin/env python3
"""Renew the browser files of webapp/static from npm packages: `python3 tools/vendor/vendor.py`.

Needs npm; running Sluice does not. Installs the locked packages into a temporary folder, copies the few files that
pages load, and draws the icon sprite. The result must have the committed sha256 sums; after changing a version or
ICONS, accept the new ones with `--update`. `--check` needs no npm and only compares the checkout with the sums.
"""

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
STATIC = HERE.parents[1] / "webapp" / "static"
SUMS = STATIC / "vendor" / "SHA256SUMS"

FILES = {
    "htmx.min.js": "htmx.org/dist/htmx.min.js",
    "tabler.min.css": "@tabler/core/dist/css/tabler.min.css",
    "uplot.min.css": "uplot/dist/uPlot.min.css",
    "uplot.min.js": "uplot/dist/uPlot.iife.min.js",
}
ICONS = """
alert-triangle arrow-back-up arrow-right ban bolt calendar-time chart-bar check chevron-left chevron-right
circle-check circle-dashed circle-x clock clock-x cloud-upload coin copy device-desktop download external-link
file-text filter history hourglass inbox info-circle key list-check loader-2 lock login logout menu-2 moon
player-pause player-play plus refresh search send server-2 shield stack-2 stack-push sun trash upload user-plus
users x
""".split()  # noqa: SIM905
MIT = HERE / "MIT.txt"  # @tabler/core comes without the text


def sprite(outline: Path) -> str:
    symbols = []
    for name in ICONS:
        svg = (outline / f"{name}.svg").read_text()
        drawing = re.search(r"<svg[^>]*>(.*)</svg>", svg, re.S)[1]
        paths = re.findall(r"<(?!path stroke=\"none\")[^>]+/>", drawing)
        symbols.append(
            f'<symbol id="{name}" viewBox="0 0 24 24" fill="none" stroke="currentColor"'
            f' stroke-linecap="round" stroke-linejoin="round">{"".join(p.replace(" />", "/>") for p in paths)}</symbol>'
        )
    note = "<!-- Made by tools/vendor/vendor.py from @tabler/icons (MIT, vendor/LICENSES.md) -->"
    return "\n".join(['<svg xmlns="http://www.w3.org/2000/svg">', note, *symbols, "</svg>", ""])


def licences(modules: Path, wanted: list[str]) -> str:
    parts = [
        "# Licences of the files in this folder and of `../icons.svg`",
        "Made by `tools/vendor/vendor.py`; versions and integrity hashes are in `tools/vendor/package-lock.json`.",
    ]
    for name in wanted:
        package = json.loads((modules / name / "package.json").read_text())
        text = next((f.read_text() for f in (modules / name).glob("LICENSE*")), None)
        if text is None:
            css = (modules / FILES["tabler.min.css"]).read_text()
            text = "\n".join(re.findall(r"Copyright [^\n]+", css[:400])) + "\n\n" + MIT.read_text()
        indented = "\n".join(line.rstrip() for line in text.strip().splitlines())
        parts.append(f"## {name} {package['version']} ({package['license']})\n\n```text\n{indented}\n```")
    return "\n\n".join(parts) + "\n"


def current_sums() -> str:
    names = [*(f"vendor/{name}" for name in [*FILES, "LICENSES.md"]), "icons.svg"]
    digests = {name: hashlib.sha256((STATIC / name).read_bytes()).hexdigest() for name in names}
    return "".join(f"{digest}  ../{name}\n" for name, digest in sorted(digests.items()))


def renew() -> None:
    with tempfile.TemporaryDirectory(prefix="sluice-vendor-") as folder:
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(HERE / name, folder)
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder, check=True)
        modules = Path(folder) / "node_modules"
        SUMS.parent.mkdir(exist_ok=True)
        for name, source in FILES.items():
            shutil.copyfile(modules / source, STATIC / "vendor" / name)
        (STATIC / "icons.svg").write_text(sprite(modules / "@tabler/icons/icons/outline"))
        wanted = sorted(json.loads((HERE / "package.json").read_text())["dependencies"])
        (STATIC / "vendor" / "LICENSES.md").write_text(licences(modules, wanted))


def main() -> int:
    parser = argparse.ArgumentParser(description="Renew webapp/static/vendor and icons.svg from npm packages.")
    parser.add_argument("--check", action="store_true", help="only compare the files with SHA256SUMS")
    parser.add_argument("--update", action="store_true", help="accept what came as the new SHA256SUMS")
    options = parser.parse_args()
    if not options.check:
        renew()
    if options.update:
        SUMS.write_text(current_sums())
    if current_sums() != SUMS.read_text():
        print("webapp/static differs from webapp/static/vendor/SHA256SUMS; `git diff` shows where", file=sys.stderr)
        return 1
    print("webapp/static/vendor and icons.svg match SHA256SUMS")
    return 0


if __name__ == "__main__":
    sys.exit(main())
