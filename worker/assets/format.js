// How numbers, times and spans are written.

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const tenths = new Intl.NumberFormat("en-US", { maximumFractionDigits: 1 });
const small = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 3 });
const compact = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });

/** A number for people: thousands apart, two digits behind the point. Text (a number too long for a double) stays. */
export function number(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return whole.format(value);
  return Math.abs(value) < 1 ? small.format(value) : fine.format(value);
}

export function short(value) {
  if (value === null || value === undefined) return "–";
  return Math.abs(value) >= 10000 ? compact.format(value) : number(value);
}

export function percent(share) {
  if (share === null || share === undefined || !Number.isFinite(share)) return "–";
  const hundredths = share * 100;
  if (hundredths >= 99.95 && hundredths < 100) return ">99.9 %";
  return `${Math.abs(hundredths) < 1 ? small.format(hundredths) : tenths.format(hundredths)} %`;
}

const ENDED = "9999-";

/** `04:40` today, `20 Nov 04:40` on other days; seconds where they matter. */
export function time(text, seconds = false) {
  if (!text) return "–";
  if (text.startsWith(ENDED)) return "ended";
  const date = new Date(text);
  const clock = date.toISOString().slice(11, seconds || date.getUTCSeconds() ? 19 : 16);
  const day = date.toISOString().slice(0, 10) === new Date().toISOString().slice(0, 10) ? "" :
    `${date.toLocaleDateString("en-GB", { day: "numeric", month: "short", timeZone: "UTC" })} `;
  return day + clock;
}

/** Seconds between a time and now, or null where the source has ended or not begun. */
export function behind(text) {
  if (!text || text.startsWith(ENDED)) return null;
  return Math.max(0, (Date.now() - Date.parse(text)) / 1000);
}

/** `4 s`, `3 min`, `2 h 5 min`, `6 d`. */
export function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) {
    const minutes = Math.round(seconds / 60);
    return minutes % 60 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${minutes / 60} h`;
  }
  return `${Math.round(seconds / 86400)} d`;
}

/** A value of a group or a cell. */
export function cell(value, type) {
  if (value === null || value === undefined) return "null";
  if (type === "timestamp") return time(value, true);
  if (type === "list") return list(value);
  if (typeof value === "number") return number(value);
  return String(value);
}

/** `p1 ×2, p2 ×1` for pairs of value and count, values otherwise. */
function list(items) {
  if (!Array.isArray(items)) return String(items);
  if (items.length === 0) return "(none)";
  return items.map((item) => (Array.isArray(item) ? `${item[0]} ×${number(item[1])}` : String(item ?? "null"))).join(", ");
}

export function words(name) {
  return name.replaceAll("_", " ");
}
