// Numbers, sizes and times as people read them.

const whole = new Intl.NumberFormat("en");
const tenths = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const count = (n) => whole.format(n);
export const short = (n) => (n < 10_000 ? whole.format(Math.round(n)) : compact.format(n));
export const rate = (n) => (n < 10 ? tenths.format(n) : short(n));

export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

export function bytes(n) {
  let unit = 0;
  while (n >= 1024 && unit < UNITS.length - 1) {
    n /= 1024;
    unit += 1;
  }
  return `${tenths.format(n)} ${UNITS[unit]}`;
}

export function duration(seconds) {
  const parts = [
    ["d", 86_400],
    ["h", 3_600],
    ["m", 60],
    ["s", 1],
  ];
  const at = parts.findIndex(([, size]) => seconds >= size);
  if (at < 0) return "0s";
  const [unit, size] = parts[at];
  const first = Math.floor(seconds / size);
  const [nextUnit, nextSize] = parts[at + 1] ?? [];
  const second = nextSize ? Math.floor((seconds - first * size) / nextSize) : 0;
  return second ? `${first}${unit} ${second}${nextUnit}` : `${first}${unit}`;
}

/// The time of day, with milliseconds; with the date if that is another day.
export function time(text) {
  const moment = new Date(text);
  const clock = `${moment.toLocaleTimeString("en-GB")}.${String(moment.getMilliseconds()).padStart(3, "0")}`;
  const isToday = moment.toDateString() === new Date().toDateString();
  return isToday ? clock : `${moment.toLocaleDateString("en-CA")} ${clock}`;
}

export const sequence = (id) => Number(id.split("-")[0]);

/// JSON with indentation; other text as it is.
export function pretty(data) {
  if (typeof data !== "string") return JSON.stringify(data, null, 2);
  try {
    return JSON.stringify(JSON.parse(data), null, 2);
  } catch {
    return data;
  }
}

/// The rules of a policy in few words.
export function rules(policy) {
  if (!policy) return "keeps everything";
  const parts = [
    policy.max_age !== undefined && `${policy.max_age}`,
    policy.max_events !== undefined && plural(policy.max_events, "event"),
    policy.max_bytes !== undefined &&
      (typeof policy.max_bytes === "number" ? bytes(policy.max_bytes) : policy.max_bytes),
    policy.compact && "newest of each key",
  ].filter(Boolean);
  return parts.length ? parts.join(" · ") : "keeps everything";
}

/// A word for the shell.
export const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
