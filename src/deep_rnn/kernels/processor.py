"""The instructions that a processor has, and those that compiled code needs, under the names that Linux gives them."""

import platform
import re
from collections.abc import Iterable
from pathlib import Path

# Of what a compiler says that it may use, the families that it uses for plain C++; AES and the like are only called.
FAMILIES = re.compile(r"__((?:S?SSE|AVX|FMA|F16C|BMI|LZCNT|POPCNT|MOVBE|GFNI|TBM|XOP|APX)(?!\w*_MATH)\w*?)__")
ON_X86 = {"sse3": "pni", "lzcnt": "abm", "bmi": "bmi1", "apxf": "apx"}  # the others have one name everywhere
ON_ARM = {
    "__ARM_FEATURE_ATOMICS": "atomics",
    "__ARM_FEATURE_BF16": "bf16",
    "__ARM_FEATURE_COMPLEX": "fcma",
    "__ARM_FEATURE_CRC32": "crc32",
    "__ARM_FEATURE_DOTPROD": "asimddp",
    "__ARM_FEATURE_FP16_FML": "asimdfhm",
    "__ARM_FEATURE_FP16_SCALAR_ARITHMETIC": "fphp",
    "__ARM_FEATURE_FP16_VECTOR_ARITHMETIC": "asimdhp",
    "__ARM_FEATURE_FRINT": "frint",
    "__ARM_FEATURE_JCVT": "jscvt",
    "__ARM_FEATURE_MATMUL_INT8": "i8mm",
    "__ARM_FEATURE_MOPS": "mops",
    "__ARM_FEATURE_QRDMX": "asimdrdm",
    "__ARM_FEATURE_RCPC": "lrcpc",
    "__ARM_FEATURE_SME": "sme",
    "__ARM_FEATURE_SVE": "sve",
    "__ARM_FEATURE_SVE2": "sve2",
}


def described() -> str:
    """What ``-march=native`` looks at, in the system's own words."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def instructions() -> frozenset[str]:
    """What this processor has; nothing where the system does not tell."""
    return frozenset(plain(name) for name in described().partition(":")[2].split())


def needed(macros: Iterable[str]) -> frozenset[str]:
    """What code may need that is compiled where these macros are defined."""
    names = set()
    for macro in macros:
        if family := FAMILIES.fullmatch(macro):
            name = plain(family[1].lower())
            names.add(ON_X86.get(name, name))
        elif macro in ON_ARM:
            names.add(ON_ARM[macro])
    return frozenset(names)


def plain(name: str) -> str:
    """A name as both sides spell it: Linux writes avx512vbmi but avx512_vbmi2."""
    return name.replace("_", "")
