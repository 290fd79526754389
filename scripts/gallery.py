"""Make the pictures of docs/gallery.md that no other command makes: ``python scripts/gallery.py``.

Trains a small sweep and one run with ``diagnostics=gradient_flow`` (run it again and it goes on where it was), shows
the sweep's page in a headless Chromium, and writes both pictures to docs/pictures. About ten minutes on two cores.
"""

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import checkout  # noqa: F401
from PIL import Image

from src.files import write_atomic

PICTURES = Path("docs/pictures")
SWEEP = Path("outputs/sweeps/gallery")
RUN = Path("outputs/runs/gallery")
WINDOW = (1300, 1500)  # the page's table and its first figures


def train(*arguments: str) -> None:
    """Train; ends this program where that fails."""
    ended = subprocess.run([sys.executable, "-m", "src.train", *arguments], check=False)
    if ended.returncode:
        sys.exit(ended.returncode)


def screenshot(page: Path) -> Image.Image:
    """A page as Chromium shows it."""
    chromium = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    if chromium is None:
        sys.exit("error: the page is shown in Chromium, and there is none (Debian: apt-get install chromium)")
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "page.png"
        look = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={folder}/profile",
        ]
        size = f"--window-size={WINDOW[0]},{WINDOW[1]}"
        subprocess.run([chromium, *look, size, f"--screenshot={picture}", page.resolve().as_uri()], check=True)
        return Image.open(io.BytesIO(picture.read_bytes()))


def small_png(image: Image.Image) -> bytes:
    """An image with a palette of 64 colours."""
    written = io.BytesIO()
    image.convert("RGB").quantize(64, dither=Image.Dither.NONE).save(written, format="png", optimize=True)
    return written.getvalue()


def main() -> None:
    """Train, draw, write."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    question = ["model=rnn,gru", "depth=1,2,4", "lr=1e-3,1e-2", "width=32", "epochs=3"]
    train("-m", "sweep=depth", *question, "logger=none", f"sweep.name={SWEEP.name}")
    if not (RUN / "DONE").exists():
        settings = ["model=lstm", "depth=4", "width=32", "epochs=1", "logger=none", "diagnostics=gradient_flow"]
        train(*settings, "diagnostics.gradient_flow.every=100", f"hydra.run.dir={RUN}")
    write_atomic(PICTURES / "sweep_page.png", small_png(screenshot(SWEEP / "page.html")))
    shutil.copyfile(RUN / "gradient_flow.png", PICTURES / "gradient_flow.png")


if __name__ == "__main__":
    main()
