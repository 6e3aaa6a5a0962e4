// What is done in the console, and what has to be seen then.
import { strict as assert } from "node:assert";

async function open(page, view, title) {
  await page.click(`#nav a[data-view="${view}"]`);
  await page.waitForSelector(`h1:has-text("${title}")`);
}

async function post(base, path, body, headers = {}) {
  const response = await fetch(base + path, { method: "POST", body, headers });
  assert.equal(response.status, 201, await response.text());
  return response;
}

const batch = (base, lines) =>
  post(base, "/v1/events", lines.map((line) => JSON.stringify(line)).join("\n"), {
    "content-type": "application/x-ndjson",
  });

const number = async (locator) => Number((await locator.textContent()).replace(/[^\d]/g, ""));

async function eventually(what, yes) {
  const ends = Date.now() + 30_000;
  for (;;) {
    const [is, seen] = await yes();
    if (is) return;
    assert.ok(Date.now() < ends, `${what}: ${seen}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/// Every view, with something in it and without.
async function views({ page, base, tell }) {
  await page.waitForSelector("text=Nothing is published yet");
  tell("an empty broker says what to do");
  await batch(
    base,
    Array.from({ length: 30 }, (_, n) => ({
      topic: `shop.${n % 3}`,
      type: n % 2 ? "sold" : "seen",
      key: `k${n}`,
      data: { n },
    })),
  );
  await eventually("the overview counts", async () => {
    const text = await page.textContent("dl.tiles");
    return [/Events kept3\d/.test(text), text];
  });
  await eventually("charts are drawn", async () => {
    const count = await page.locator(".chart canvas").count();
    return [count === 4, count];
  });
  await page.waitForSelector('.pill[data-state="live"]');
  tell("the overview has live numbers and four charts");

  await open(page, "topics", "Topics");
  await page.waitForSelector('#topic-list tr[data-row="shop.2"]');
  assert.match(await page.textContent('#topic-list tr[data-row="shop.1"]'), /10/);
  await page.fill('input[type="search"]', "shop.1");
  assert.equal(await page.locator("#topic-list tr[data-row]").count(), 1);
  tell("topics are listed and found");

  await page.click('#topic-list tr[data-row="shop.1"] a');
  await page.waitForSelector('h1:has-text("shop.1")');
  await eventually("its events are shown", async () => [
    (await page.locator(".tail li").count()) === 10,
    "rows",
  ]);
  await page.locator(".line").first().click();
  assert.match(await page.textContent(".detail pre"), /\{\n {2}"n": 28\n\}/);
  await page.fill('input[name="type"]', "sold");
  await page.click('button:has-text("Show")');
  await eventually("only one type is shown", async () => [
    (await page.locator(".tail li").count()) === 5,
    "rows",
  ]);
  await page.fill('input[name="key"]', "k7");
  await page.click('button:has-text("Show")');
  await eventually("only one key is shown", async () => {
    const told = await page.textContent(".told");
    return [(await page.locator(".tail li").count()) === 1 && /1 match/.test(told), told];
  });
  tell("a topic is shown, with pretty JSON, filtered by type and key");
  await starts({ page, base, tell });

  await page.goto(`${base}/console#/topic/${encodeURIComponent("shop.*")}`);
  await eventually("a pattern shows all its topics", async () => [
    (await page.locator(".line .topic").count()) === 30,
    "rows",
  ]);
  tell("a pattern is followed");
  await colours({ page, tell });
}

/// The places from which a topic can be read.
async function starts({ page, base, tell }) {
  const listed = await (
    await fetch(`${base}/v1/topics/shop.1/events?from=earliest`, { headers: { accept: "application/json" } })
  ).json();
  const show = async (from, value, rows) => {
    await page.fill('input[name="type"]', "");
    await page.fill('input[name="key"]', "");
    await page.selectOption('select[name="from"]', from);
    if (value !== null) await page.fill('input[name="from-value"]', value);
    await page.click('button:has-text("Show")');
    await eventually(`from ${from} ${value}`, async () => {
      const count = await page.locator(".tail li").count();
      return [count === rows, count];
    });
  };
  await show("earliest", null, 10);
  await show("last", "3", 3);
  await show("id", listed.events[6].id, 4);
  await show("latest", null, 0);
  await show("time", "2001-01-01T00:00:00", 10);
  tell("a topic is replayed from the oldest, the last three, an id, a time and now");
  await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  await page.click('button:has-text("Copy as curl")');
  await page.waitForSelector('button:has-text("Copied")');
  const copied = await page.evaluate(() => navigator.clipboard.readText());
  assert.ok(
    copied.startsWith("curl -N '") && copied.includes("/v1/topics/shop.1/events?from=2001-01-01"),
    copied,
  );
  tell("what is shown is copied as curl");
}

async function colours({ page, tell }) {
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await page.selectOption("#theme", "light");
  const light = await ground();
  await page.selectOption("#theme", "dark");
  assert.notEqual(await ground(), light);
  await page.reload();
  await page.waitForSelector("h1");
  assert.equal(await page.inputValue("#theme"), "dark");
  assert.notEqual(await ground(), light);
  for (const view of ["overview", "topics", "publish", "connections", "acts", "resume"]) {
    await page.setViewportSize({ width: 390, height: 844 });
    await page.click(`#nav a[data-view="${view}"]`);
    await page.waitForSelector("h1");
    const tooWide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(tooWide <= 0, `${view} is too wide by ${tooWide}`);
  }
  tell("colours are switched and remembered, and every view fits a phone");
}

/// What changes the broker.
async function acts({ page, base, tell }) {
  await open(page, "acts", "Acts of administration");
  await page.waitForSelector("text=Nobody has administered this broker yet");
  await batch(
    base,
    Array.from({ length: 25 }, (_, n) => ({ topic: "shop.a", data: { n } })),
  );

  await open(page, "publish", "Publish");
  await page.fill('input[name="topic"]', "bad..topic");
  await page.click('button[type="submit"]');
  await page.waitForSelector(".notice.bad");
  await page.fill('input[name="topic"]', "shop.a");
  await page.fill('input[name="type"]', "sold");
  await page.fill('textarea[name="data"]', '{"by":"hand"}');
  await page.click('button[type="submit"]');
  await page.waitForSelector(".notice.good >> text=is durable");
  const newest = await (
    await fetch(`${base}/v1/topics/shop.a/events?from=-1`, { headers: { accept: "application/json" } })
  ).json();
  assert.deepEqual([newest.events[0].type, newest.events[0].data], ["sold", { by: "hand" }]);
  tell("an event is published by the form, and a bad topic is explained");

  await open(page, "topics", "Topics");
  await page.click('button:has-text("New policy")');
  await page.fill('dialog input[name="pattern"]', "shop.*");
  await page.fill('dialog input[name="max_events"]', "10");
  assert.ok(
    await page.isDisabled('dialog button:has-text("Set policy")'),
    "nothing is set before it was tried",
  );
  await page.click('dialog button:has-text("See what goes")');
  await page.waitForSelector("dialog >> text=16 events");
  await page.fill('dialog input[name="max_events"]', "20");
  assert.ok(
    await page.isDisabled('dialog button:has-text("Set policy")'),
    "what was tried is not what is written now",
  );
  await page.click('dialog button:has-text("See what goes")');
  await page.waitForSelector("dialog >> text=6 events");
  await page.click('dialog button:has-text("Set policy")');
  await page.waitForSelector('#policy-list tr[data-row="shop.*"] >> text=20 events');
  assert.deepEqual(await (await fetch(`${base}/v1/policies/${encodeURIComponent("shop.*")}`)).json(), {
    pattern: "shop.*",
    max_events: 20,
  });
  await page.click('#policy-list tr[data-row="shop.*"] button:has-text("Edit")');
  assert.equal(await page.inputValue('dialog input[name="max_events"]'), "20");
  await page.fill('dialog input[name="max_age"]', "soon");
  await page.click('dialog button:has-text("See what goes")');
  await page.waitForSelector("dialog .notice.bad");
  await page.keyboard.press("Escape");
  tell("a policy is tried, set and edited, and a bad one is explained");

  await eventually("the policy is carried out", async () => {
    const { events } = await (await fetch(`${base}/v1/topics/shop.a`)).json();
    return [events === 20, events];
  });
  await page.click('#topic-list tr[data-row="shop.a"] button:has-text("Purge")');
  await page.waitForSelector('dialog button:has-text("Purge 20 events")');
  await page.click('dialog button:has-text("Cancel")');
  assert.equal(
    (await (await fetch(`${base}/v1/topics/shop.a`)).json()).events,
    20,
    "nothing goes before it is confirmed",
  );
  await page.click('#topic-list tr[data-row="shop.a"] button:has-text("Purge")');
  await page.click('dialog button:has-text("Purge 20 events")');
  await page.waitForSelector("text=20 events of shop.a purged");
  assert.equal((await (await fetch(`${base}/v1/topics/shop.a`)).json()).events, 0);
  tell("a purge names the number of events, and waits for the word");

  await page.click('#policy-list tr[data-row="shop.*"] button:has-text("Remove")');
  await page.click('dialog button:has-text("Remove policy")');
  await page.waitForSelector("text=Everything is kept");
  await open(page, "acts", "Acts of administration");
  await eventually("the acts are told", async () => {
    const text = await page.textContent(".timeline");
    const wanted = [
      "Policy of shop.* set: 20 events",
      "shop.a purged: 20 events",
      "Policy of shop.* removed",
    ];
    return [wanted.every((said) => text.includes(said)), text];
  });
  tell("every act is told");
}

/// Streams that are closed, cut, and go on.
async function streams({ page, base, tell }) {
  await batch(
    base,
    Array.from({ length: 5 }, (_, n) => ({ topic: "a", data: { n } })),
  );
  const controller = new AbortController();
  const other = await fetch(`${base}/v1/events?topic=a&topic=b`, { signal: controller.signal });
  await open(page, "connections", "Connections");
  const row = page.locator('tr[data-row]:has(button[aria-label="Close the stream of a, b"])');
  await row.waitFor();
  assert.match(await row.textContent(), /no token127\.0\.0\.1:\d+/);
  await row.locator("button").click();
  const said = await new Response(other.body).text();
  assert.match(said, /event: \$closing\n(?:retry: \d+\n)?data: \{"reason":"ended"\}/);
  await page.waitForSelector("text=Nobody reads now");
  controller.abort();
  tell("a stream is listed and closed");

  await open(page, "resume", "Exact resume");
  await page.waitForSelector('.pill[data-state="live"]');
  for (let cuts = 1; cuts <= 3; cuts += 1) {
    await page.click('button:has-text("Cut, and publish meanwhile")');
    await eventually("the stream is back", async () => {
      const count = await number(page.locator("#ledger-reconnects"));
      return [count === cuts, count];
    });
    await eventually("what was missed has come", async () => {
      const count = await number(page.locator("#ledger-received"));
      return [count === 5 + cuts * 20, count];
    });
  }
  await page.click('button:has-text("Let the broker close it")');
  await eventually("the stream is back again", async () => {
    const count = await number(page.locator("#ledger-reconnects"));
    return [count === 4, count];
  });
  await page.waitForSelector("text=65 compared with the log: every event once, in order.");
  for (const name of ["missing", "twice", "gaps"])
    assert.equal(await number(page.locator(`#ledger-${name}`)), 0, name);
  tell("a stream that is cut four times misses nothing and doubles nothing");
}

/// A topic with far more events than anybody can read.
async function flood({ page, base, tell }) {
  await page.goto(`${base}/console#/topic/flood`);
  await page.waitForSelector('.pill[data-state="live"]');
  let over = false;
  let sent = 0;
  const publishing = (async () => {
    while (!over) {
      const lines = Array.from({ length: 500 }, (_, n) => ({
        topic: "flood",
        key: `k${n}`,
        data: { n, text: "x".repeat(80) },
      }));
      await batch(base, lines);
      sent += lines.length;
      await new Promise((resolve) => setTimeout(resolve, 90));
    }
  })();
  await page.waitForSelector("text=/showing 1 of \\d/");
  await eventually("most of them are received", async () => {
    const received = await number(page.locator(".told").first());
    return [sent > 10_000, `${received} of ${sent}`];
  });
  assert.ok((await page.locator(".tail li").count()) <= 200);
  const frames = await page.evaluate(
    () =>
      new Promise((resolve) => {
        let [count, begun] = [0, performance.now()];
        const frame = () =>
          performance.now() - begun > 3000
            ? resolve(count / 3)
            : ((count += 1), requestAnimationFrame(frame));
        requestAnimationFrame(frame);
      }),
  );
  await page.locator(".line").nth(3).click();
  await page.waitForSelector(".detail pre");
  await page.click('button:has-text("Pause")');
  over = true;
  await publishing;
  assert.equal(await page.textContent(".pill"), "paused");
  tell(`a flood is sampled, and says so: ${sent} events sent, ${Math.round(frames)} frames a second`);
}

/// Signing in and out.
async function signIn({ page, base, token, tell }) {
  await page.waitForSelector('h1:has-text("Sign in")');
  assert.equal(await page.evaluate(() => document.activeElement.name), "token");
  await page.fill("textarea", "not.a.token");
  await page.click('button[type="submit"]');
  await page.waitForSelector('[role="alert"]');
  await page.fill("textarea", token);
  await page.click('button[type="submit"]');
  await page.waitForSelector('h1:has-text("Overview")');
  await page.waitForSelector('.pill[data-state="live"]');
  await page.waitForSelector(".legend strong:not(:text-is('–'))");
  tell("a token signs in, a bad one is explained, and the charts are live with it");
  const stored = await page.evaluate(() =>
    [Object.values(localStorage).join(), document.cookie, location.href].join(),
  );
  assert.ok(!stored.includes(token.slice(0, 20)), "the token is nowhere but in the tab");
  await page.goto(`${base}/console#/publish/a.b`);
  await page.click('form button[type="submit"]');
  await page.waitForSelector(".notice.good");
  await page.goto(`${base}/console#/topic/a.b`);
  await page.waitForSelector(".tail li");
  await open(page, "resume", "Exact resume");
  await page.waitForSelector('.pill[data-state="live"]');
  await page.click("#cut");
  await eventually("the stream is back", async () => [
    (await number(page.locator("#ledger-reconnects"))) === 1,
    "reconnects",
  ]);
  tell("reading, publishing and resuming work with the token");
  await page.click("#sign-out");
  await page.waitForSelector('h1:has-text("Sign in")');
  await page.reload();
  await page.waitForSelector('h1:has-text("Sign in")');
  tell("signing out forgets it");
}

/// A token that may not administer.
async function fewRights({ page, token, tell }) {
  await page.fill("textarea", token);
  await page.click('button[type="submit"]');
  await page.waitForSelector("text=perennial.admin");
  await open(page, "topics", "Topics");
  await page.waitForSelector("text=perennial.admin");
  await open(page, "connections", "Connections");
  await page.waitForSelector("text=perennial.admin");
  tell("what a token does not allow is said, claim and all");
}

/// From the first key to a policy, without a mouse.
async function keyboard({ page, base, tell }) {
  await batch(
    base,
    Array.from({ length: 8 }, (_, n) => ({ topic: "keys", data: { n } })),
  );
  const press = (key) => page.keyboard.press(key);
  const focused = () =>
    page.evaluate(() =>
      (document.activeElement.getAttribute("aria-label") ?? document.activeElement.textContent ?? "").trim(),
    );
  const tabTo = async (text) => {
    for (let presses = 0; presses < 60; presses += 1) {
      await press("Tab");
      if ((await focused()).startsWith(text)) return;
    }
    assert.fail(`no Tab leads to ${text}; the focus is on ${await focused()}`);
  };
  await press("Tab");
  assert.equal(await focused(), "Skip to the content");
  await tabTo("Topics");
  await press("Enter");
  await page.waitForSelector('#topic-list tr[data-row="keys"]');
  assert.equal(await page.evaluate(() => document.activeElement.id), "main", "the focus goes to what is new");
  await tabTo("New policy");
  await press("Enter");
  await page.waitForSelector("dialog[open]");
  await page.keyboard.type("keys");
  await press("Tab");
  await press("Tab");
  await page.keyboard.type("5");
  await press("Enter");
  await page.waitForSelector("dialog >> text=3 events");
  assert.equal(await focused(), "Set policy");
  await press("Enter");
  await page.waitForSelector('#policy-list tr[data-row="keys"]');
  tell("a policy is tried and set by the keyboard alone");
  await page.click('#nav a[data-view="topics"]', { trial: true });
  await page.goto(`${base}/console#/topic/keys`);
  await page.waitForSelector(".line");
  await page.focus("main");
  await tabTo("Pause");
  await press("Enter");
  await page.waitForSelector('.pill[data-state="paused"]');
  const named = await page.evaluate(() =>
    [...document.querySelectorAll("button, a, input, select, textarea")]
      .filter((element) => element.checkVisibility())
      .filter(
        (element) =>
          !(element.textContent.trim() || element.getAttribute("aria-label") || element.labels?.length),
      )
      .map((element) => element.outerHTML),
  );
  assert.deepEqual(named, [], "every control has a name");
  const landmarks = await page.evaluate(() =>
    ["header", "nav[aria-label]", "main", "h1", "[role=status]"].map(
      (one) => document.querySelectorAll(one).length > 0,
    ),
  );
  assert.ok(landmarks.every(Boolean), `${landmarks}`);
  tell("controls have names, and the page its landmarks");
}

export const scenarios = {
  views,
  acts,
  streams,
  flood,
  "sign-in": signIn,
  "few-rights": fewRights,
  keyboard,
};
