// Starts Debian's Chromium, quiet on the network, with a new empty profile that is removed at the end.
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const EXECUTABLES = ["/usr/bin/chromium", "/usr/bin/chromium-browser"];

export async function withPage(work, options = {}) {
  const executablePath = EXECUTABLES.find((path) => existsSync(path));
  if (!executablePath) throw new Error("no Chromium in /usr/bin: tests/run installs it");
  const profile = mkdtempSync(join(tmpdir(), "perennial-chromium-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath,
    headless: true,
    ...options,
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--disable-dev-shm-usage",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--no-proxy-server",
    ],
  });
  try {
    const page = await context.newPage();
    page.on("console", (entry) => process.stderr.write(`page: ${entry.text()}\n`));
    page.on("pageerror", (error) => process.stderr.write(`page error: ${error.message}\n`));
    await work(page);
  } finally {
    await context.close();
    rmSync(profile, { recursive: true, force: true });
  }
}

// Resolves when the test closes our standard input: its sign that it has seen enough.
export function standardInputEnds() {
  return new Promise((resolve) => {
    process.stdin.resume();
    process.stdin.on("end", resolve);
    process.stdin.on("error", resolve);
  });
}
