"""The documentation page in a real Chromium, on a desk and on a phone: see the script for what is looked at."""

from __future__ import annotations

import json

import pytest

from tests.end_to_end.browser import browser
from tests.javascript import Node
from tests.serving import ServerProcess

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

SCRIPT = """
await drive(async () => {
  const widths = {};
  for (const [width, height, colorScheme] of [[1280, 900, "light"], [390, 844, "dark"], [320, 640, "light"]]) {
    await page.setViewportSize({ width, height });
    await page.emulateMedia({ colorScheme });
    await page.goto(`${own[0]}/docs`);
    widths[width] = await page.evaluate(() => document.documentElement.scrollWidth);
    await page.getByRole("navigation", { name: "On this page" }).getByRole("link", { name: "/chat" }).click();
    await page.waitForFunction(() => Math.abs(document.querySelector(location.hash).getBoundingClientRect().top) < 60);
    assert(page.url().endsWith("#namespace-chat"), page.url());
    await page.getByText("JSON Schema").nth(1).click();
    await page.locator("details[open] pre").waitFor();
    const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const dark = Number(background.match(/[0-9]+/)[0]) < 60;
    assert(dark === (colorScheme === "dark"), `${background} in ${colorScheme}: the style sheet did not load`);
  }
  return { widths, troubles, foreign: [...foreign] };
});
"""


@pytest.mark.asyncio
async def test_the_page_fits_its_screen_and_complains_of_nothing(
    node: Node, chromium: str, app_server: ServerProcess
) -> None:
    async with browser(node, chromium, SCRIPT, app_server.url) as reader:
        found = json.loads(await reader.until("end"))
    assert found == {"widths": {"1280": 1280, "390": 390, "320": 320}, "troubles": [], "foreign": []}
