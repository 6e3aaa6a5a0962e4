// Goes through the console in Chromium as a person does, click by click, and by the keyboard alone.
// Usage: node console.mjs BASE_URL SCENARIO [TOKEN]
// Prints a line of JSON for each thing that was seen to be right, and ends with 1 at the first that is not.
import { withPage } from "./chromium.mjs";
import { scenarios } from "./console_scenarios.mjs";

const [base, scenario, token] = process.argv.slice(2);
const LIMIT_MS = 30_000;

function tell(what) {
  process.stdout.write(JSON.stringify({ seen: what }) + "\n");
}

let violations = [];
try {
  await withPage(async (page) => {
    page.setDefaultTimeout(LIMIT_MS);
    page.on("pageerror", (error) => violations.push(`error: ${error.message}`));
    page.on("console", (entry) => {
      if (/Content Security Policy|Refused to/.test(entry.text())) violations.push(entry.text());
    });
    await page.goto(`${base}/console`);
    await scenarios[scenario]({ page, base, token, tell });
  });
  if (violations.length > 0) throw new Error(`the page broke its rules: ${violations.join("; ")}`);
  tell("no violation of the content security policy, and no error");
} catch (error) {
  console.error(error.stack);
  process.exit(1);
}
process.exit(0);
