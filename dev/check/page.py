"""Opens a page of `stablerep report` in a headless browser, at the widths of a phone and of a desktop, light and dark.

    python dev/check/page.py report.html [SCREENSHOTS]

Needs playwright (PyPI) and a Chromium of the system's packages. Fails where the page asks for anything beside itself, says an error, holds a
picture that cannot be shown, or is wider than the screen.
"""
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

WIDTHS = {"phone": (390, 844), "desktop": (1440, 900)}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main() -> None:
    page_file = Path(sys.argv[1]).resolve()
    shots = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    browser_file = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    assert browser_file, f"no browser: install one of {', '.join(BROWSERS)}"
    wrong = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_file, args=["--no-sandbox"])
        for width, (across, down) in WIDTHS.items():
            for scheme in ("light", "dark"):
                what = f"{width}, {scheme}"
                page = browser.new_page(viewport={"width": across, "height": down}, color_scheme=scheme)
                page.on("console", lambda message: wrong.append(f"{what}: {message.text}"))
                page.on("pageerror", lambda error: wrong.append(f"{what}: {error}"))
                asked = lambda request: None if request.url.startswith(("data:", page_file.as_uri())) else wrong.append(f"{what}: asks for {request.url}")
                page.on("request", asked)
                page.goto(page_file.as_uri())
                across_page = page.evaluate("document.documentElement.scrollWidth")
                if across_page > across:
                    wrong.append(f"{what}: {across_page} pixels wide, the screen {across}")
                empty = page.evaluate("[...document.images].filter(image => !image.naturalWidth).length")
                if empty:
                    wrong.append(f"{what}: {empty} pictures are not shown")
                ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
                print(f"{what}: {page.evaluate('document.images.length')} pictures, {page.evaluate('document.querySelectorAll(`svg`).length')} figures, ground {ground}")
                if shots:
                    shots.mkdir(parents=True, exist_ok=True)
                    page.screenshot(path=shots / f"{width}-{scheme}.png", full_page=True)
                page.close()
        browser.close()
    assert not wrong, "\n".join(wrong)


if __name__ == "__main__":
    main()
