"""``python -m deep_rnn.build DIR`` builds the fused CPU kernels ahead, for machines that have no C++ compiler.

    python -m deep_rnn.build /opt/kernels                            # for processors like this one
    python -m deep_rnn.build /opt/kernels --processor x86-64-v3      # for any with AVX2
    DEEP_RNN_KERNELS=/opt/kernels python ...                         # takes the best that fits where it runs

The version of deep_rnn and that of torch must be the same there; where nothing fits, one line says why and the kernels
are compiled as usual. Exit codes: 0 built (or there already), 1 the compiler failed, 2 a wrong request.
"""

import argparse
import sys
from pathlib import Path

from deep_rnn.kernels import ahead, compiler

PROCESSOR = """what -march of the compiler takes (CXX, or c++): native, the default, this processor; x86-64-v4 any with
AVX-512, x86-64-v3 with AVX2, x86-64-v2 with SSE4.2; or a name such as haswell, skylake-avx512, znver3 or, on 64-bit
Arm, armv8-a, armv8.2-a+sve. Run it once for each processor; builds for several may lie in one folder"""


def main(arguments: list[str] | None = None) -> int:
    """Build what the command line asks for; returns the exit code, after one line for what went wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m deep_rnn.build",
        description="Build deep_rnn's fused CPU kernels ahead, for machines without a C++ compiler: these run with "
        f"{ahead.VARIABLE}=DIR in their environment, and the same versions of deep_rnn and torch.",
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="where to; made if need be")
    parser.add_argument("--processor", metavar="NAME", default="native", help=PROCESSOR)
    asked = parser.parse_args(arguments)
    try:
        built, note = ahead.build(asked.folder, asked.processor)
    except (FileExistsError, NotADirectoryError):
        print(f"error: {asked.folder} is no folder, and none can be made there", file=sys.stderr)
        return 2
    except compiler.UnknownProcessorError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (OSError, RuntimeError) as error:
        print(f"error: {compiler.error_line(str(error))}", file=sys.stderr)
        return 1
    print(f"{built}: needs {' '.join(note.instructions) or 'nothing beyond ' + note.machine}, torch {note.torch}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
