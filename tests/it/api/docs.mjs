// Uses the documentation page as a person would, in Chromium. Standard input is one JSON object: `url` of the page, `token`,
// `path` of the operation to try, `picture` (a file to draw the page into, or null). Standard output is one JSON object: the
// status that the page shows, the requests that left, and whatever the browser complained about.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../../target/interop", import.meta.url));
const { chromium } = createRequire(`${process.env.POMBO_INTEROP_DIR ?? root}/node/`)("playwright-core");

const { url, token, path, picture } = JSON.parse(readFileSync(0, "utf8"));
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  // Debian's sandbox cannot be had as root or in a container, and nothing but Pombo's own page is opened.
  args: ["--no-sandbox", "--disable-dev-shm-usage"],
});
const said = { requests: [], complaints: [] };
try {
  const page = await browser.newPage({ viewport: { width: 1300, height: 1600 } });
  page.setDefaultTimeout(45_000);
  page.on("request", (request) => said.requests.push(request.url()));
  page.on("requestfailed", (request) => said.complaints.push(`failed: ${request.url()}`));
  page.on("pageerror", (error) => said.complaints.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error") said.complaints.push(message.text());
  });
  await page.goto(url);
  await page.locator(".opblock").first().waitFor();
  said.title = await page.title();
  said.operations = await page.locator(".opblock").count();

  await page.locator(".auth-wrapper .authorize").first().click();
  const dialog = page.locator(".dialog-ux");
  await dialog.locator("input").first().fill(token);
  await dialog.locator(".auth-btn-wrapper .authorize").first().click();
  await dialog.locator(".btn-done").first().click();

  const operation = page
    .locator(".opblock-get")
    .filter({ has: page.locator(`.opblock-summary-path[data-path="${path}"]`) });
  await operation.locator(".opblock-summary-control").click();
  await operation.locator(".execute").click();
  const status = operation.locator(".live-responses-table .response-col_status").nth(1);
  await status.waitFor();
  said.status = (await status.innerText()).trim().split(/\s/)[0];
  said.stored = await page.evaluate(() => JSON.stringify({ ...localStorage, ...sessionStorage }) + document.cookie);
  if (picture) await page.screenshot({ path: picture });
} finally {
  await browser.close();
}
console.log(JSON.stringify(said));
