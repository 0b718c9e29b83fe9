"""Coverage-guided fuzzing of everything that reads from clients: ``python -m tests.fuzz --runs 10000000``.

Atheris (the extra ``fuzz``) mutates what is kept in ``corpus/`` and keeps what reaches new code. Each target has a
process of its own, one after the other. What it finds ends the run with code 1, the input in hexadecimal.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.fuzz import READERS

SHARES: Final = {"text": 0.4, "msgpack": 0.25, "frames": 0.25, "payload": 0.1}
"""Of the runs: a whole session is slower than a reader alone."""
BOUNDS: Final = ("-max_len=400", "-timeout=20", "-rss_limit_mb=2048")
"""Bytes of one input, seconds for it, and memory: more than that is a finding too."""


def inside(target: str, arguments: list[str]) -> None:
    """The process of one target; libFuzzer has its arguments. Does not return."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=READERS):
        targets = importlib.import_module("tests.fuzz.targets")
    atheris.Setup([sys.argv[0], *arguments], targets.TARGETS[target])
    atheris.Fuzz()


def fuzz(target: str, folder: Path, *options: str) -> tuple[int, float]:
    """Inputs that were fed, and seconds. Raises SystemExit with the finding."""
    command = [sys.executable, "-m", "tests.fuzz", "--inside", target, *options, f"-artifact_prefix={folder}/found-"]
    started = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    finished = re.search(r"Done (\d+) runs", done.stdout)
    if done.returncode or finished is None:
        found = [f"{path.name}: {path.read_bytes().hex()}" for path in folder.glob("found-*")]
        raise SystemExit("\n".join([done.stdout[-4_000:], *found, f"{target}: exit code {done.returncode}"]))
    return int(finished[1]), time.monotonic() - started


def campaign(target: str, runs: int, seconds: int, seed: int, is_kept: bool) -> dict[str, object]:
    """One target; with ``is_kept`` what was found worth keeping takes the place of its corpus, minimised."""
    keeping = importlib.import_module("tests.fuzz.keeping")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = folder / "corpus"
        corpus.mkdir()
        for number, data in enumerate(keeping.kept(target) or keeping.seeds(target)):
            (corpus / f"{number:05}").write_bytes(data)
        words = folder / "words"
        words.write_text("".join(f'"{quoted(word)}"\n' for word in keeping.words(target)))
        options = [f"-runs={runs}", f"-seed={seed}", f"-max_total_time={seconds}", f"-dict={words}"]
        fed, took = fuzz(target, folder, str(corpus), *options, *BOUNDS)
        if is_kept:
            keeping.keep(target, keeping.worth_keeping(target, [path.read_bytes() for path in corpus.iterdir()]))
    return {"target": target, "inputs": fed, "seed": seed, "seconds": round(took)}


def quoted(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000, help="inputs, over all targets")
    parser.add_argument("--seconds", type=int, default=3_600, help="for one target at the most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=SHARES, help="one target alone has all the runs")
    parser.add_argument("--keep", action="store_true", help="put what was found worth keeping into corpus/")
    options = parser.parse_args()
    total = 0
    for target, share in {options.only: 1.0}.items() if options.only else SHARES.items():
        told = campaign(target, round(options.runs * share), options.seconds, options.seed, options.keep)
        total += int(str(told["inputs"]))
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
    sys.stdout.write(json.dumps({"inputs": total, "findings": 0}) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(sys.argv[2], sys.argv[3:])
    main()
