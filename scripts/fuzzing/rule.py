"""The rule: what a case must never do, whatever was asked for."""

import re
from pathlib import Path

from fuzzing.case import Case, Outcome
from fuzzing.layout import NEIGHBOUR

ENDS = ("DONE", "PRUNED")
OWN = (".stdin", ".stdout", ".stderr", ".tmp")
_LEFTOVER = re.compile(r"(^|/)\..*\.tmp$|^\.tmp/(?!torchinductor_)")
"""A temporary file of ours, or of anybody but torch's compiler, which keeps what it made."""
_FORMULA = re.compile(r"^(\w+\.)*\w*(Error|Exception|Warning|Interrupt|Iteration): ", re.MULTILINE)


def faults(case: Case, outcome: Outcome, folder: Path, before: dict[str, str], after: dict[str, str]) -> list[str]:
    """What is wrong with how a case ended, one line each; none where all is well.

    Args:
        case: what was asked for.
        outcome: what came of it.
        folder: where.
        before: what lay there (see `layout.snapshot`).
        after: what lies there now.
    """
    code, err = outcome.code, outcome.err
    if code is None:
        return [f"not over after {outcome.seconds:.0f} s"]
    found = []
    if code not in (0, 1, 2):
        found.append(f"exit code {code}")
    if "Traceback (most recent call last)" in err + outcome.out:
        found.append(f"a traceback: {_last(err)}")
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    changed = {name for name in changed if not name.startswith(OWN) and not _LEFTOVER.search(name)}
    if touched := sorted(name for name in changed if name.startswith(NEIGHBOUR)):
        found.append(f"another run's file touched: {touched[0]}")
    if touched := sorted(name for name in changed if name in before and not _may_change(case, name, code)):
        found.append(f"a file changed: {touched[0]}")
    if left := sorted(name for name in after.keys() - before.keys() if _LEFTOVER.search(name)):
        found.append(f"a temporary file left: {left[0]}")
    if code == 2:
        found += _not_one_line(case, err)
        if made := sorted(name for name in changed if name.endswith(ENDS) and name in after and not _is_sweep(case)):
            found.append(f"refused, but made {made[0]}")
    if code == 1 and case.door == "train" and not any(name.endswith("FAILED") for name in changed):
        found.append("failed without FAILED")
    if code in (1, 2) and "error: " not in err:
        found.append(f"exit code {code} without an error line: {_last(err)}")
    for name in sorted(name for name in changed if name.endswith("/FAILED") and name in after):
        reason = (folder / name).read_text(errors="replace").rstrip().rpartition("\n")[2]
        if re.match(r"reason: \w+: ", reason):
            found.append(f"FAILED of what nobody foresaw: {reason}")
    if code == 0 and not _did_something(case, outcome, changed, after):
        found.append("exit code 0, and nothing done")
    return found


def _may_change(case: Case, name: str, code: int) -> bool:
    """A sweep's own files, a run that it goes on with, and of a run that it is refused to go on with the log."""
    if name.startswith("outputs/sweeps/"):
        return True
    return any(name.startswith(own) for own in case.own) and (code != 2 or name.endswith("/train.log"))


def _is_sweep(case: Case) -> bool:
    return bool({"-m", "--multirun"} & set(case.arguments))


def _not_one_line(case: Case, err: str) -> list[str]:
    lines = err.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    if case.door == "sweeps" and lines and lines[0].startswith("usage: "):
        return []  # argparse's own way
    if not _is_sweep(case) and len(errors) != 1:
        return [f"refused in {len(errors)} lines"]
    if _FORMULA.match(errors[-1].removeprefix("error: ") if errors else ""):
        return [f"refused in a program's words: {errors[-1][:200]}"]
    if not _is_sweep(case) and lines[-1:] != errors[-1:]:
        return [f"words after the error: {lines[-1][:200]}"]
    return []


def _did_something(case: Case, outcome: Outcome, changed: set[str], after: dict[str, str]) -> bool:
    if case.door == "sweeps":
        return any(name.endswith("table.md") for name in changed) or "usage" in outcome.out
    typed = {argument.partition("=")[0] for argument in case.arguments}
    if case.door == "predict" and not case.stdin and "text" not in typed:
        return True  # no line in, no line out
    asks = {flag for flag in typed if flag.startswith("-")} - {"-m", "--multirun", "-r", "--run"}
    if case.door != "train" or asks:  # for an answer, such as --help
        return bool(outcome.out.strip())
    if case.own and changed and outcome.out.strip():  # the run was DONE before, as a rule
        return any(f"{own}/{end}" in after for own in case.own for end in ENDS)
    return any(name.rpartition("/")[2] in ENDS and name in after for name in changed)


def _last(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1][:300]
