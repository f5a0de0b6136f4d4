"""Asks the serving stack of containers as its users do, kills the engine once, and asks until it answers again.

    ask_serving.py API_PORT PAGE_PORT MODEL KILL...       KILL: the command that kills the engine's process

Prints what it saw; ends with a traceback if something is not as it should be.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time

import httpx
import openai
from playwright.sync_api import sync_playwright

RESTORED_WITHIN = 60.0  # seconds; without other load it takes about five


def ask(client: openai.OpenAI, model: str) -> str:
    message = {"role": "user", "content": "안녕하세요"}
    answer = client.chat.completions.create(model=model, messages=[message], temperature=0, max_tokens=24)
    return answer.choices[0].message.content


def ask_the_page(port: int) -> str:
    """What the page answers, as Chromium shows it."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        raise SystemExit("no Chromium: apt install chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu", "--proxy-server=direct://"])
        page = browser.new_page(locale="ko-KR")
        page.set_default_timeout(60_000)
        page.goto(f"http://127.0.0.1:{port}/")
        page.locator("#box textarea").fill("안녕하세요")
        page.locator("#box .submit-button").click()
        page.wait_for_function("() => (document.querySelector('#chat .message.bot')?.innerText ?? '').trim().length > 1")
        page.locator("#box .submit-button").wait_for()  # the answer is whole
        text = page.locator("#chat .message.bot").first.inner_text()
        browser.close()
    return text


def main() -> None:
    api, page, model, kill = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:]
    http = httpx.Client(trust_env=False, timeout=20)
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{api}/v1", api_key="none", http_client=http, max_retries=0)
    assert model in [card.id for card in client.models.list()]
    before = ask(client, model)
    print("endpoint:", before)
    shown = ask_the_page(page)
    print("page:", shown)
    assert before and shown
    subprocess.run(kill, check=True)
    killed, errors = time.monotonic(), 0
    while True:
        try:
            after = ask(client, model)
            break  # by another engine process: the killed one cannot
        except openai.APIStatusError as error:
            errors += 1
            assert error.status_code in (500, 502, 503, 504), error
        assert time.monotonic() - killed < RESTORED_WITHIN, f"no answer {RESTORED_WITHIN:g} s after the engine was killed"
        time.sleep(0.2)
    # The endpoint tries again by itself what had not begun, so that there may be no error at all.
    print(f"answers again {time.monotonic() - killed:.1f} s after the engine was killed ({errors} clear errors in between)")
    assert after == before


if __name__ == "__main__":
    main()
