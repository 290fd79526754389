"""Fused kernels built ahead, for machines without a compiler.

``python -m deep_rnn.build DIR`` makes them, ``DEEP_RNN_KERNELS=DIR`` says where they are. Each build has a folder of
its own in DIR, with a note of what it was built of and for. Of those that fit this torch, these sources and this
processor, the one that uses most instructions is loaded; the note is read first, so that none is ever run where an
instruction would be missing.
"""

import dataclasses
import errno
import hashlib
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

import torch

from deep_rnn.kernels import compiler, processor

VARIABLE = "DEEP_RNN_KERNELS"
NOTE = "kernels.json"


@dataclasses.dataclass(frozen=True)
class Note:
    """What a build was built of, and what it needs to run."""

    processor: str  # as -march has it
    machine: str
    torch: str
    sources: str
    instructions: list[str]

    @classmethod
    def read(cls, folder: Path) -> "Note | None":
        """A build's note, or None where it is damaged."""
        try:
            return cls(**json.loads((folder / NOTE).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def why_not(self) -> str | None:
        """Why the build cannot run in this process, or None."""
        if self.machine != platform.machine():
            return f"built for {self.machine}, this is {platform.machine()}"
        if self.torch != str(torch.__version__):
            return f"built for torch {self.torch}, this is {torch.__version__}"
        if self.sources != compiler.source_hash():
            return "built from another version of deep_rnn"
        missing = sorted(set(self.instructions) - processor.instructions())
        return f"this processor has no {listed(missing)}" if missing else None


def listed(names: list[str], most: int = 3) -> str:
    """A list for a message."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def build(folder: Path, march: str = "native") -> tuple[Path, Note]:
    """Build the kernels for a processor, as ``-march`` names it, into a folder of their own inside ``folder``.

    Returns:
        That folder, which appears when it is complete, and its note. It is left alone where it is there already.

    Raises:
        OSError: there is no compiler, or the folder cannot be written.
        UnknownProcessorError: the compiler does not know the processor.
        RuntimeError: the compiler failed.
    """
    instructions = sorted(compiler.instructions(march))
    note = Note(march, platform.machine(), str(torch.__version__), compiler.source_hash(), instructions)
    text = json.dumps(dataclasses.asdict(note), indent=2)
    made_by = "\0".join([text, compiler.version(), *compiler.FLAGS])
    finished = folder / f"{march}-{hashlib.sha256(made_by.encode()).hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    if not finished.exists():
        with compiler.announced(finished), tempfile.TemporaryDirectory(prefix=".building-", dir=folder) as private:
            building = Path(private) / march  # unlike the private one, as open to others as they may have new folders
            building.mkdir()
            compiler.compile_into(building, march)
            (building / NOTE).write_text(text)
            try:
                building.rename(finished)
            except OSError as error:  # another process was faster
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
    return finished, note


def load() -> bool:
    """Load the best of the builds in ``$DEEP_RNN_KERNELS``; where none fits, say why in one line on stderr."""
    named = os.environ.get(VARIABLE)
    if not named:
        return False
    best, reasons = choose(Path(named))
    if best:
        try:
            torch.ops.load_library(best / compiler.LIBRARY)
        except (OSError, RuntimeError) as error:
            reasons.append(f"{best.name}: {compiler.error_line(str(error))}")
        else:
            return True
    why = "; ".join(reasons) or "there are none"
    print(
        f"no fused kernels in {VARIABLE}={named} can be used ({why}); python -m deep_rnn.build {named} builds them",
        file=sys.stderr,
        flush=True,
    )
    return False


def choose(folder: Path) -> tuple[Path | None, list[str]]:
    """The build in a folder that fits best, and why the others do not fit."""
    fitting, reasons = [], []
    for build in sorted(note.parent for note in folder.glob(f"[!.]*/{NOTE}")):
        note = Note.read(build)
        if reason := note.why_not() if note else f"{NOTE} is damaged":
            reasons.append(f"{note.processor if note else build.name}: {reason}")
        elif note:
            fitting.append((len(note.instructions), build))
    return max(fitting)[1] if fitting else None, reasons
