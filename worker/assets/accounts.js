// What holds for the whole pipeline: key figures, ledger, quality, alerts, dead letters, sources and sinks.
import { get, sql } from "./api.js";
import { spark } from "./chart.js";
import { empty, fill, h, panel } from "./dom.js";
import { behind, number, percent, short, span, time, words } from "./format.js";

const RATES_KEPT = 60;

/** The key figures in `host`. */
export function figures(host) {
  const rates = [];
  let before = null;
  return (status, ledger, alerts) => {
    const sum = (name) => ledger.streams.reduce((total, stream) => total + stream[name], 0);
    const now = { at: performance.now(), read: sum("read") };
    const measured = before && now.at > before.at ? ((now.read - before.read) * 1000) / (now.at - before.at) : 0;
    const rate = status.events_per_second || Math.max(0, measured);
    before = now;
    rates.push(rate);
    if (rates.length > RATES_KEPT) rates.shift();
    const marks = status.watermarks.map((stream) => behind(stream.watermark)).filter((lag) => lag !== null);
    const raised = alerts.counts.filter((one) => one.state === "raised").reduce((total, one) => total + one.count, 0);
    const late = ledger.tables.reduce((total, table) => total + table.late, 0);
    host.replaceChildren(
      figure("events", "Events read", now.read, number(now.read), `${number(status.lag)} waiting`),
      figure("rate", "Events per second", rate, short(Math.round(rate)), "", "", spark(rates)),
      figure("accepted", "Accepted", sum("accepted"), percent(now.read ? sum("accepted") / now.read : null), `${number(sum("accepted"))} events`),
      figure("refused", "Not counted", sum("invalid") + late, number(sum("invalid") + late), `${number(sum("invalid"))} invalid · ${number(late)} late`, sum("invalid") + late ? "warn" : ""),
      figure("watermark", "Event time behind", marks.length ? Math.max(...marks) : "", marks.length ? span(Math.max(...marks)) : status.watermarks.some((stream) => stream.watermark) ? "ended" : "–", "watermark to clock"),
      figure("alerts", "Alerts raised", raised, number(raised), `${number(alerts.counts.reduce((total, one) => total + one.count, 0) - raised)} withdrawn`, raised ? "bad" : ""),
      figure("unaccounted", "Unaccounted", ledger.unaccounted, number(ledger.unaccounted), ledger.unaccounted === 0 ? "nothing is missing" : "on their way, or lost", ledger.unaccounted === 0 ? "good" : "warn"),
    );
  };
}

function figure(id, name, value, shown, note, tone = "", extra = null) {
  return h("div", { class: `figure ${tone}`, id: `figure-${id}` }, h("div", { class: "name" }, name),
    h("div", { class: "value", "data-value": String(value) }, shown), h("div", { class: "note" }, note), extra);
}

/** The panels below the tables, in `host`. */
export function accounts(host, about) {
  const parts = [ledgerPart(), qualityPart(about), sourcesPart(), alertsPart(about), deadLettersPart()];
  host.replaceChildren(...parts.map((part) => part.element));
  return (news) => Promise.all(parts.map((part) => part.refresh(news)));
}

function ledgerPart() {
  const { element, body } = panel("Ledger", "", h("span", { class: "muted" }, "where every event went"));
  return {
    element,
    refresh({ ledger }) {
      fill(body, ledger, () => {
        if (ledger.streams.length === 0) return empty("No event has been read yet.");
        const streams = ledger.streams.map((stream) => account(stream.stream, "read", stream, stream.read,
          [["accepted", "a"], ["duplicate", "b"], ["invalid", "c"], ["expired", "e"]]));
        const tables = ledger.tables.map((table) => account(table.table, "accepted", table, table.accepted, [["counted", "a"], ["filtered", "e"], ["late", "d"]]));
        return [h("h3", { class: "muted" }, "Streams"), streams, h("hr", { class: "rule" }), h("h3", { class: "muted" }, "Tables"), tables];
      });
    },
  };
}

/** Parts of a whole, as a bar and in numbers. */
function account(name, whole, sums, total, parts) {
  const present = parts.filter(([part]) => sums[part] > 0 || part === parts[0][0]);
  const open = sums.unaccounted === 0 ? null : h("span", { class: "warn" }, `${number(sums.unaccounted)} open`);
  return h("div", { class: "account", "data-account": name }, h("h3", {}, h("span", {}, name), h("span", { class: "muted number" }, `${number(total)} ${whole}`)),
    h("div", { class: "parts" }, present.map(([part, tone]) => h("i", { class: tone, share: total ? sums[part] / total : 0 }))),
    h("div", { class: "legend" }, present.map(([part, tone]) => h("span", { class: tone }, h("i"), `${words(part)} `, h("b", { "data-part": part, "data-value": String(sums[part]) }, number(sums[part])))), open));
}

const QUALITY = `select window_start as w, stream as s, sum(accepted) as a, sum(duplicate) as d, sum(invalid) as i from _quality
  where window_start in (select distinct window_start from _quality order by 1 desc limit 12) group by 1, 2 order by 1 desc, 2`;

function qualityPart(about) {
  const { element, body } = panel("Quality", "", h("span", { class: "muted" }, "valid share by minute"));
  const target = (stream) => about.streams.find((one) => one.name === stream)?.quality?.target_ppm;
  return {
    element,
    async refresh() {
      const rows = await sql(QUALITY);
      fill(body, rows, () => {
        if (rows.length === 0) return empty("Nothing has been judged yet.");
        const line = (row) => {
          const judged = row.a + row.d + row.i;
          const share = judged ? (row.a + row.d) / judged : null;
          const wanted = target(row.s);
          const tone = wanted === undefined ? "open" : share * 1e6 < wanted ? "bad" : "good";
          return h("tr", {}, h("td", {}, time(row.w)), h("td", {}, row.s), h("td", { class: "number" }, h("span", { class: `tag ${tone}` }, percent(share))),
            h("td", { class: "number" }, number(row.i)), h("td", { class: "number" }, number(row.d)));
        };
        const head = ["minute", "stream", "valid", "invalid", "duplicate"].map((name, at) => h("th", { scope: "col", class: at > 1 ? "number" : null }, name));
        const goals = about.streams.filter((stream) => stream.quality).map((stream) => `${stream.name}: target ${percent(stream.quality.target_ppm / 1e6)}`);
        return [h("div", { class: "scroll short" }, h("table", {}, h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows.map(line)))),
          goals.length ? h("p", { class: "muted" }, goals.join(" · ")) : null];
      });
    },
  };
}

function sourcesPart() {
  const { element, body } = panel("Sources and sinks", "");
  const progress = (one) => h("li", { share: one.total ? one.read / one.total : one.done ? 1 : 0 }, h("span", { class: "label" }, one.name),
    h("span", { class: "amount" }, one.total ? percent(one.read / one.total) : number(one.read), h("small", {}, one.done ? "done" : `${short(Math.round(one.events_per_second))}/s`)));
  const mark = (stream) => h("tr", {}, h("td", {}, stream.stream), h("td", {}, time(stream.watermark, true)),
    h("td", { class: "number" }, stream.watermark && behind(stream.watermark) === null ? "–" : span(behind(stream.watermark))));
  const sink = (one) => h("tr", {}, h("td", {}, one.name), h("td", { class: "muted" }, one.kind), h("td", { class: "number" }, number(one.written)),
    h("td", { class: "number" }, one.problem ? h("span", { class: "tag bad", title: one.problem }, "stuck") : one.lag ? `${number(one.lag)} wait` : h("span", { class: "tag good" }, "up to date")));
  const tables = (title, columns, lines) => lines.length === 0 ? [] : [h("div", { class: "scroll short" },
    h("table", {}, h("thead", {}, h("tr", {}, columns.map((name, at) => h("th", { scope: "col", class: at > 1 ? "number" : null }, name)))), h("tbody", {}, lines)))];
  return {
    element,
    refresh({ status }) {
      fill(body, [status.ingest, status.watermarks, status.sinks, Math.round(Date.now() / 2000)], () => {
        const parts = [
          status.ingest.length ? h("ul", { class: "bars", id: "ingest" }, status.ingest.map(progress)) : [],
          tables("Watermarks", ["stream", "watermark", "behind"], status.watermarks.map(mark)),
          tables("Sinks", ["sink", "", "written", "state"], status.sinks.map(sink)),
        ].flat();
        return parts.length ? parts : empty("Nothing is connected.");
      });
    },
  };
}

function alertsPart(about) {
  const { element, body } = panel("Alerts", "half");
  const tone = { raised: "bad", withdrawn: "open" };
  const line = (alert) => h("tr", { "data-alert": alert.alert }, h("td", {}, h("span", { class: `tag ${tone[alert.state] ?? ""}` }, alert.state)), h("td", {}, alert.alert),
    h("td", {}, time(alert.window_start)), h("td", { class: "long" }, pairs(alert.group)), h("td", { class: "long muted" }, pairs(alert.row)));
  return {
    element,
    refresh({ alerts }) {
      fill(body, alerts, () => {
        if (alerts.alerts.length) {
          const head = ["state", "alert", "window", "group", "row"].map((name) => h("th", { scope: "col" }, name));
          return h("div", { class: "scroll short" }, h("table", { id: "alerts" }, h("thead", {}, h("tr", {}, head)), h("tbody", {}, alerts.alerts.map(line))));
        }
        const watched = about.alerts.map((alert) => `${alert.name} (${alert.table})`).join(", ");
        return empty(about.alerts.length ? `All quiet. Watching: ${watched}.` : "The manifest declares no alerts.");
      });
    },
  };
}

/** `a: 1 · b: 2` of an object, a value otherwise. */
function pairs(value) {
  if (value === null) return "–";
  if (Array.isArray(value)) return value.map((item) => String(item)).join(" · ");
  if (typeof value !== "object") return String(value);
  return Object.entries(value).map(([name, item]) => `${name}: ${typeof item === "number" ? number(item) : item}`).join(" · ") || "all";
}

function deadLettersPart() {
  const { element, body } = panel("Dead letters", "half", h("span", { class: "muted" }, "what could not be counted, and why"));
  const letter = (one) => h("tr", {}, h("td", {}, time(one.arrival, true)), h("td", {}, h("span", { class: "tag warn" }, one.reason)), h("td", {}, one.stream),
    h("td", { class: "long" }, h("details", {}, h("summary", {}, one.detail || `${one.source} @ ${one.offset}`), h("pre", {}, one.text + (one.truncated ? " …" : "")),
      h("span", { class: "muted" }, `${one.source} offset ${number(one.offset)}`))));
  return {
    element,
    async refresh() {
      const page = await get("/api/v1/dead-letters", { limit: 30 });
      fill(body, page, () => {
        if (page.letters.length === 0) return empty("None. Every event so far could be read, passed its rules and came in time.");
        const top = Math.max(...page.reasons.map((one) => one.count), 1);
        const reasons = h("ul", { class: "bars warn", id: "reasons" }, page.reasons.map((one) => h("li", { share: one.count / top },
          h("span", { class: "label" }, one.reason, h("span", { class: "muted" }, ` · ${one.stream}`)),
          h("span", { class: "amount", "data-reason": one.reason, "data-value": String(one.count) }, number(one.count)))));
        const head = ["arrived", "reason", "stream", "what was found"].map((name) => h("th", { scope: "col" }, name));
        return [reasons, h("div", { class: "scroll short" }, h("table", { id: "letters" }, h("thead", {}, h("tr", {}, head)), h("tbody", {}, page.letters.map(letter))))];
      });
    },
  };
}
