"""Make the pictures of the READMEs: the chat page with a real answer, and a loss curve.

The chat page must be open (``make chat``); a Chromium and the Python package playwright are needed::

    python docs/make_pictures.py chat --prompt "김치찌개는 어떻게 끓여요?" --out docs/images/chat.png
    python docs/make_pictures.py loss --metrics artifacts/laptop/base-model/metrics.jsonl --out docs/images/loss.png
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from llm_workshop.errors import install_one_line_errors
from scratch_llm.io import atomic_write

PHONE, DESK = (390, 844), (1280, 800)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def find_browser() -> str:
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    raise FileNotFoundError("no Chromium found: install it (Debian, Ubuntu: apt-get install chromium fonts-nanum)")


def chat_picture(url: str, prompts: Sequence[str], out: Path, size: tuple[int, int], dark: bool, seed: str) -> None:
    """Ask the questions on an open chat page, wait for the answers and take a picture."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=find_browser(), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(
            viewport={"width": size[0], "height": size[1]},
            device_scale_factor=2,
            locale="ko-KR",
            color_scheme="dark" if dark else "light",
        )
        try:
            page.goto(url)
        except Exception as error:
            raise OSError(f"nothing answers at {url} ({str(error).splitlines()[0]}): open the page with make chat") from None
        page.wait_for_selector("#box .submit-button")
        page.fill("#seed textarea, #seed input", seed)
        for number, prompt in enumerate(prompts, 1):
            page.fill("#box textarea", prompt)
            page.click("#box .submit-button")
            page.wait_for_function(f"document.querySelectorAll('#chat .message.user').length == {number}")
            page.wait_for_selector("#status .figures", timeout=120_000)
            page.wait_for_selector("#box .submit-button")
            print(f"> {prompt}\n{page.inner_text('#chat .message.bot >> nth=-1').strip()}\n")
        page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
        page.wait_for_timeout(400)
        picture = page.screenshot()
        browser.close()
    with atomic_write(out, "wb") as stream:
        stream.write(picture)


def loss_picture(metrics: Path, out: Path, title: str | None) -> None:
    from llm_workshop.report.plots import loss_plot

    figure = loss_plot(metrics, title)
    with atomic_write(out, "wb") as stream:
        figure.savefig(stream, format="png", dpi=150, bbox_inches="tight")


def main(argv: Sequence[str] | None = None) -> int:
    install_one_line_errors()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    chat = kinds.add_parser("chat", help="picture of an open chat page")
    chat.add_argument("--url", default="http://127.0.0.1:7860")
    chat.add_argument("--prompt", action="append", required=True, help="a question (may be repeated)")
    chat.add_argument("--phone", action="store_true", help="390 x 844 instead of 1280 x 800")
    chat.add_argument("--dark", action="store_true")
    chat.add_argument("--seed", default="0", help="seed of the answers; empty = a new one each time")
    chat.add_argument("--out", type=Path, default=Path("docs/images/chat.png"))
    loss = kinds.add_parser("loss", help="loss curve of a run")
    loss.add_argument("--metrics", type=Path, default=Path("artifacts/laptop/base-model/metrics.jsonl"))
    loss.add_argument("--title")
    loss.add_argument("--out", type=Path, default=Path("docs/images/loss.png"))
    options = parser.parse_args(argv)
    if options.kind == "chat":
        size = PHONE if options.phone else DESK
        chat_picture(options.url, options.prompt, options.out, size, options.dark, options.seed)
    else:
        loss_picture(options.metrics, options.out, options.title)
    print(f"picture: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
