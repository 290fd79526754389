"""Try what people type and have, and worse: ``python scripts/fuzz.py --seed 0 --command-lines 500 --files 300``.

Each case is drawn from the seed and its number alone, so ``--only files:17`` tries one of them again. Ends with exit
code 1 where the rule (``fuzzing/rule.py``) was broken; what was broken is printed, and the case's folder is kept.
"""

import argparse
import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

import checkout  # noqa: F401


def main(arguments: list[str]) -> int:
    """Try, print, and say whether all went by the rule."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    for kind, count in (("command-lines", 500), ("files", 300), ("run-folders", 200)):
        parser.add_argument(f"--{kind}", type=int, default=count, metavar="N")
    parser.add_argument("--only", metavar="KIND:NUMBER", action="append", help="try these cases, and print all of them")
    parser.add_argument("--jobs", type=int, default=2, help="cases at a time")
    parser.add_argument("--limit", type=float, default=120, help="seconds that a case may take")
    parser.add_argument("--fresh-every", type=int, default=40, help="one case in so many is a process from the start")
    parser.add_argument("--work", type=Path, help="folder for the cases; default: a temporary one, kept if need be")
    chosen = parser.parse_args(arguments)
    from fuzzing.house import environment  # late: --help needs no torch
    from fuzzing.tried import KINDS, Figures, attempt, make_templates

    work = (chosen.work or Path(tempfile.mkdtemp(prefix="fuzz-"))).resolve()
    work.mkdir(parents=True, exist_ok=True)
    os.environ |= environment(work / "cache")
    templates = make_templates(work)
    broken = False
    for kind, make in KINDS.items():
        asked = [name.partition(":") for name in chosen.only or ()]
        numbers = [int(number) for name, _, number in asked if name == kind]
        if not asked:
            numbers = list(range(getattr(chosen, kind.replace("-", "_"))))
        cases = (make(chosen.seed, number) for number in numbers)
        figures = Figures()
        tried = attempt(cases, work, templates, chosen.jobs, chosen.limit, chosen.fresh_every, keep=bool(asked))
        for case, outcome, found in tried:
            figures.count(outcome, found)
            if found or asked:
                print(f"\n{case.name} ({case.what}), exit code {outcome.code} in {outcome.seconds:.1f} s, in {work}")
                print(f"  python -m src.{case.door} {shlex.join(case.arguments)}", flush=True)
                print("".join(f"  FAULT {fault}\n" for fault in found), end="", flush=True)
            if asked:
                print(f"--- out\n{outcome.out}\n--- err\n{outcome.err}", flush=True)
        print(f"{kind}: {figures}", flush=True)
        broken |= bool(figures.faults)
    if not broken and chosen.work is None and not chosen.only:
        shutil.rmtree(work)
    return int(broken)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
