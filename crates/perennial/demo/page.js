// Watches the demo's trades with the browser's own EventSource, and counts honestly: each symbol's trades carry `seq`,
// which counts from 1 without gaps and begins again behind the day's last trade. What did not come is missed, what came
// again is a duplicate; a gap that the broker told of is neither, but is counted and shown.
"use strict";

// The number of each symbol's last trade of the day.
const LAST_OF_DAY = { AIG: 845, BAC: 6058, IBM: 1393, SPY: 15704 };
const STREAM = "/v1/events?topic=stocks.**&envelope=true";
const FIRST_CONNECTION = "&from=-200";
const CONTROL = ["$open", "$live", "$gap", "$closing", "$cursor"];
const EVENTS = ["trade", "trade-off-exchange", "message"];
const PRICES_KEPT = 160;
const ROWS_SHOWN = 14;
const REVIVE_AFTER_MS = 3000;

const element = (id) => document.getElementById(id);
const price = new Intl.NumberFormat("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 4 });
const whole = new Intl.NumberFormat("en-US");

const counts = { received: 0, missed: 0, duplicates: 0, gaps: 0, reconnects: 0 };
const symbols = new Map();
const rows = [];
let state = "connecting";
let lastId = "";
let note = "";
let opened = 0;
// The newest event's place, to see whether ids only ever grow.
let last = null;
let waiting = false;

function connect() {
  const place = lastId ? "&last_event_id=" + encodeURIComponent(lastId) : FIRST_CONNECTION;
  const source = new EventSource(STREAM + place);
  for (const type of CONTROL) source.addEventListener(type, (event) => onControl(type, event));
  for (const type of EVENTS) source.addEventListener(type, onEvent);
  source.onerror = () => {
    if (source.readyState !== EventSource.CLOSED) return setState("reconnecting");
    // The browser has given up, as it does after an answer that is no stream. Ask again from the last id.
    setState("stopped");
    setTimeout(connect, REVIVE_AFTER_MS);
  };
}

function onControl(type, event) {
  const data = JSON.parse(event.data);
  takeId(event.lastEventId);
  if (type === "$open") {
    opened += 1;
    counts.reconnects = opened - 1;
    setState("replaying");
  } else if (type === "$live") {
    setState("live");
  } else if (type === "$closing") {
    setState("reconnecting");
  } else if (type === "$gap") {
    counts.gaps += 1;
    note = "Gap (" + data.reason + "): asked for what comes after " + data.requested + ", going on after " +
      data.resumed_after + ".";
    // What comes next need not follow what came before, and the broker has said so.
    for (const symbol of symbols.values()) symbol.seq = null;
    last = null;
  }
  show();
}

function takeId(id) {
  if (id) lastId = id;
}

function onEvent(event) {
  const envelope = JSON.parse(event.data);
  takeId(event.lastEventId);
  counts.received += 1;
  const sequence = BigInt(envelope.id.split("-")[0]);
  const repeated = last !== null && sequence <= last;
  if (!repeated) last = sequence;
  const trade = tradeOf(envelope);
  const repeatedTrade = trade !== null && !countTrade(trade);
  if (repeated || repeatedTrade) counts.duplicates += 1;
  if (trade !== null) follow(trade);
  rows.unshift({ envelope, trade });
  rows.length = Math.min(rows.length, ROWS_SHOWN);
  show();
}

// The trade in an event of the demo; null for what somebody else published.
function tradeOf(envelope) {
  const data = envelope.data;
  const isTrade = envelope.origin === "demo" && data !== null && typeof data === "object" &&
    data.symbol in LAST_OF_DAY && Number.isInteger(data.seq) && typeof data.price === "number";
  return isTrade ? data : null;
}

// Counts what is missing before a trade. False if the trade came before.
function countTrade(trade) {
  const symbol = symbolOf(trade.symbol);
  const before = symbol.seq, lastOfDay = LAST_OF_DAY[trade.symbol];
  if (before !== null && trade.seq > before) {
    counts.missed += trade.seq - before - 1;
  } else if (before !== null) {
    // The count went back: either these came before, or a new day has begun, and the rest of the old one is missing.
    const isNewDay = before - trade.seq >= Math.floor(lastOfDay / 2);
    if (!isNewDay) return false;
    counts.missed += lastOfDay - before + trade.seq - 1;
  }
  symbol.seq = trade.seq;
  return true;
}

function symbolOf(name) {
  if (!symbols.has(name)) symbols.set(name, { name, seq: null, first: null, prices: [], trades: 0, tile: null });
  return symbols.get(name);
}

function follow(trade) {
  const symbol = symbolOf(trade.symbol);
  symbol.first ??= trade.price;
  symbol.trades += 1;
  symbol.prices.push(trade.price);
  if (symbol.prices.length > PRICES_KEPT) symbol.prices.shift();
}

function setState(next) {
  state = next;
  show();
}

// Many events may come at once, so they are drawn together.
function show() {
  if (waiting) return;
  waiting = true;
  setTimeout(() => {
    waiting = false;
    draw();
  }, 40);
}

function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

function draw() {
  for (const [name, count] of Object.entries(counts)) setText(element(name), String(count));
  for (const name of ["missed", "duplicates"]) {
    element(name).parentElement.classList.toggle("broken", counts[name] > 0);
  }
  setText(element("last-id"), lastId || "none yet");
  setText(element("state"), state);
  element("state").dataset.state = state;
  element("note").hidden = note === "";
  setText(element("note"), note);
  for (const name of [...symbols.keys()].sort()) drawTile(symbols.get(name));
  element("trades").replaceChildren(...rows.map(row));
}

function make(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function makeSvg(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function makeTile(symbol) {
  const box = make("article", "tile");
  const head = make("h3", "", symbol.name);
  const trades = make("span", "trades");
  const chart = makeSvg("svg", { viewBox: "0 0 100 30", preserveAspectRatio: "none", "aria-hidden": "true" });
  const area = makeSvg("polygon", {});
  const line = makeSvg("polyline", {});
  const shown = make("p", "price");
  const change = make("p", "change");
  head.append(trades);
  chart.append(area, line);
  box.append(head, shown, change, chart);
  const tiles = element("tiles");
  const after = [...tiles.children].find((other) => other.dataset.symbol > symbol.name);
  box.dataset.symbol = symbol.name;
  tiles.insertBefore(box, after ?? null);
  return { box, trades, shown, change, area, line };
}

function drawTile(symbol) {
  symbol.tile ??= makeTile(symbol);
  const tile = symbol.tile;
  if (symbol.prices.length === 0) {
    setText(tile.shown, "–");
    return setText(tile.change, "no trade seen yet");
  }
  const now = symbol.prices.at(-1);
  const difference = now - symbol.first;
  const percent = (100 * difference) / symbol.first;
  const rises = difference > 0, falls = difference < 0;
  tile.box.classList.toggle("rises", rises);
  tile.box.classList.toggle("falls", falls);
  setText(tile.trades, whole.format(symbol.trades) + (symbol.trades === 1 ? " trade" : " trades"));
  setText(tile.shown, price.format(now));
  const sign = rises ? "▲ +" : falls ? "▼ −" : "± ";
  setText(tile.change, sign + price.format(Math.abs(difference)) + " (" + Math.abs(percent).toFixed(2) + " %) since first seen");
  const low = Math.min(...symbol.prices), high = Math.max(...symbol.prices);
  const step = 100 / Math.max(symbol.prices.length - 1, 1);
  const height = (value) => (high === low ? 15 : 28 - (26 * (value - low)) / (high - low)).toFixed(2);
  const points = symbol.prices.map((value, index) => (index * step).toFixed(2) + "," + height(value));
  if (points.length === 1) points.push("100," + height(now));
  tile.line.setAttribute("points", points.join(" "));
  tile.area.setAttribute("points", "0,30 " + points.join(" ") + " 100,30");
}

function row({ envelope, trade }) {
  const line = make("tr", trade ? "" : "foreign");
  line.append(make("td", "", envelope.topic));
  if (trade) {
    line.append(make("td", "number", price.format(trade.price)), make("td", "number", whole.format(trade.size)));
    const off = envelope.type === "trade-off-exchange";
    line.append(make("td", "venue", off ? trade.exchange + " off exchange" : trade.exchange));
    line.append(make("td", "late", trade.time.slice(11, 23)));
  } else {
    const text = typeof envelope.data === "string" ? envelope.data : JSON.stringify(envelope.data);
    const words = make("td", "words", text.length > 160 ? text.slice(0, 160) + "…" : text);
    words.colSpan = 3;
    line.append(words, make("td", "late", envelope.time.slice(11, 23)));
  }
  line.append(make("td", "late id", envelope.id));
  return line;
}

function fillCommands() {
  for (const code of document.querySelectorAll("code[data-command]")) {
    code.textContent = code.dataset.command.replaceAll("{origin}", location.origin).replaceAll("{host}", location.host);
    const button = make("button", "", "Copy");
    button.type = "button";
    button.setAttribute("aria-label", "Copy: " + code.textContent);
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    code.closest(".command").append(button);
  }
}

Object.keys(LAST_OF_DAY).forEach(symbolOf);
fillCommands();
draw();
connect();
