"""How long a command takes before it works, and what it imports on the way.

Run `python benchmarks/startup.py` from the root of the checkout; `--help` lists the options. Each
command is a process of its own, in turns with `python -c pass`, `python -c "import torch"` and, for
what a user would write instead, a script that opens every image with Pillow.

The script ends with an error where a command fails or imports torch.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from machine import describe_machine, in_turns, print_machine, spread, table, write_json

HEAVY = (
    *("torch", "torchvision", "lightning", "pytorch_grad_cam", "pandas", "matplotlib"),
    *("scipy", "sklearn", "skimage", "cv2", "PIL", "numpy", "pydantic"),
)
NEVER = {"torch", "torchvision", "lightning", "pytorch_grad_cam"}

LIST_MODULES = """
import runpy, sys
sys.argv = ["weakseg", *sys.argv[1:]]
try:
    runpy.run_module("weakseg", run_name="__main__")
except SystemExit as e:
    assert not e.code, e.code
print("\\nmodules:", *sorted({name.partition(".")[0] for name in sys.modules}))
"""
OPEN_ALL = """
import csv, sys
from pathlib import Path
from PIL import Image
path = Path(sys.argv[1])
for row in csv.DictReader(path.open()):
    for key in ("image", "mask"):
        if row.get(key):
            Image.open(path.parent / row[key]).load()
"""


def main() -> None:
    """Measure, print, and write the figures where that was asked for."""
    options = read_options()
    machine = describe_machine(["typer", "pydantic", "numpy", "pillow", "torch"])
    print_machine(machine)
    with tempfile.TemporaryDirectory() as folder:
        manifests = [*options.manifests, make_phantom(Path(folder))]
        python = [sys.executable]
        commands = {
            "python -c pass": [*python, "-c", "pass"],
            "import torch": [*python, "-c", "import torch"],
            "weakseg --help": [*python, "-m", "weakseg", "--help"],
        }
        for m in manifests:
            name = f"{m.parent.name}, {sum(1 for _ in m.open(encoding='utf-8')) - 1} images"
            commands[f"weakseg validate ({name})"] = [*python, "-m", "weakseg", "validate", str(m)]
            commands[f"Pillow opens all ({name})"] = [*python, "-c", OPEN_ALL, str(m)]
        imports = {name: heavy_imports(c) for name, c in commands.items() if "weakseg" in c}
        times = in_turns([lambda c=c: run(c) for c in commands.values()], options.repeats)
    rows = [
        (name, spread(t), ", ".join(imports.get(name, [])) or "–")
        for name, t in zip(commands, times, strict=True)
    ]
    print(f"\n{options.repeats} repeats: median [smallest–largest]\n")
    print(table(("command", "seconds", "heavy modules"), rows))
    for name, modules in imports.items():
        if NEVER & set(modules):
            raise SystemExit(f"{name} imports {', '.join(sorted(NEVER & set(modules)))}")
    write_json(options.json, {"machine": machine, "rows": rows})


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifests", type=Path, nargs="*", help="manifests to validate, too")
    parser.add_argument("--repeats", type=int, default=7, help="timed runs of each")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    if options.repeats < 1:
        parser.error(f"--repeats must be at least 1, got {options.repeats}")
    return options


def make_phantom(folder: Path) -> Path:
    """The default phantom's manifest, written by a process of its own."""
    code = (
        "import sys; from pathlib import Path\n"
        "from weakseg.config import PhantomConfig\n"
        "from weakseg.data.phantom import write_phantom\n"
        "write_phantom(Path(sys.argv[1]), PhantomConfig())"
    )
    target = folder / "phantom"
    run([sys.executable, "-c", code, str(target)])
    return target / "labels.csv"


def run(command: list[str]) -> str:
    """What a command prints; an error where it fails."""
    # With compiled modules, as an installed package has them.
    written = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=written)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:4])} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def heavy_imports(command: list[str]) -> list[str]:
    """Which of `HEAVY` a command has imported when it ends."""
    arguments = command[command.index("weakseg") + 1 :]
    printed = run([sys.executable, "-c", LIST_MODULES, *arguments])
    modules = set(printed.rpartition("modules:")[2].split())
    return [name for name in HEAVY if name in modules]


if __name__ == "__main__":
    main()
