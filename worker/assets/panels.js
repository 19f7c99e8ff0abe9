// The panels of one table: totals, latest window, trend, groups, funnel, lists, rows.
import { sql } from "./api.js";
import { chart } from "./chart.js";
import * as choose from "./choose.js";
import { choice, empty, fill, h, panel, select } from "./dom.js";
import { number, percent, span, time, words } from "./format.js";
import { grid } from "./grid.js";

/** Shows a table in `host`. Returns `refresh`, which asks anew and resolves when everything is shown. */
export function tableView(host, table) {
  const view = choose.view(table);
  const wide = [];
  const narrow = [totalsPart(view)];
  if (view.windowed && !view.session) wide.push(latestPart(view));
  if (view.funnel) wide.push(funnelPart(view));
  if (view.windowed && view.values.length) wide.push(trendPart(view));
  if (!view.funnel && view.groups.length && view.values.length) (view.windowed ? narrow : wide).push(barsPart(view));
  if (view.lists.length) wide.push(listsPart(view));
  const rows = grid(table);
  const stack = (parts, shape) => h("div", { class: `stack ${shape}` }, parts.map((part) => part.element));
  host.replaceChildren(stack(wide, "wide"), stack(narrow, ""), rows.element);
  const parts = [...wide, ...narrow, rows];
  return async () => {
    const news = { windows: view.windowed ? await sql(choose.trend(view)) : [] };
    await Promise.all(parts.map((part) => part.refresh(news)));
  };
}

/** A fact whose exact value tests and people can read. */
export function fact(name, value, shown = number(value), extra = null) {
  return h("div", {}, h("dt", { title: name }, words(name)), h("dd", { "data-fact": name, "data-value": String(value) }, shown, extra));
}

function totalsPart(view) {
  const { element, body } = panel(view.addsUp && view.additive.length ? "Totals" : "Rows", "");
  return {
    element,
    async refresh() {
      const [sums] = await sql(choose.totals(view));
      fill(body, sums, () => {
        const adding = view.addsUp ? view.additive : [];
        const kept = h("dl", { class: "facts", id: "totals" }, adding.map((column) => fact(column.name, sums[column.name])));
        const rows = [fact("rows", sums.n)];
        if (view.windowed) rows.push(fact("final", sums.f, `${percent(sums.n ? sums.f / sums.n : null)}`));
        return [adding.length ? [kept, h("hr", { class: "rule" })] : [], h("dl", { class: "facts" }, rows)];
      });
    },
  };
}

function latestPart(view) {
  const note = h("span", { class: "muted" });
  const { element, body } = panel("Latest window", "", note);
  return {
    element,
    async refresh({ windows: [latest, before] }) {
      fill(body, [latest, before], () => {
        note.textContent = latest ? `${time(latest.w)} – ${time(latest.e)}` : "";
        if (!latest) return empty("No window yet. The first shows up with the first event that counts.");
        const state = h("span", { class: `tag ${latest.f ? "good" : "open"}` }, latest.f ? "final" : "open");
        const facts = view.values.slice(0, 8).map((column) => latestFact(view, column, latest, before));
        return [h("dl", { class: "facts", id: "latest" }, facts), h("p", { class: "muted" }, state, ` ${number(latest.n)} ${latest.n === 1 ? "row" : "rows"}`)];
      });
    },
  };
}

/** A value of the latest window, compared with the window before. */
function latestFact(view, column, latest, before) {
  const value = latest[column.name];
  const old = before?.[column.name];
  const change = typeof old === "number" && typeof value === "number" && old !== 0 ? (value - old) / Math.abs(old) : null;
  const arrow = change === null || Math.abs(change) < 0.0005 ? null :
    h("small", { class: change > 0 ? "up" : "down", title: "against the window before" }, `${change > 0 ? "▲" : "▼"} ${percent(Math.abs(change))}`);
  const shown = column.type === "boolean" ? percent(value) : number(value);
  return fact(column.name, value, shown, arrow);
}

function trendPart(view) {
  let column = view.values[0];
  let byGroup = false;
  let last = null;
  const host = h("div", { class: "chart" });
  const nothing = empty("The trend starts with the second window.");
  const plot = chart(host);
  const note = h("span", { class: "muted" });
  const draw = async ({ windows }) => {
    last = { windows };
    host.hidden = windows.length < 2;
    nothing.hidden = !host.hidden;
    note.textContent = byGroup ? "largest groups" : choose.meaning(view, column);
    if (host.hidden) return plot.clear();
    const times = windows.map((row) => row.w).reverse();
    if (!byGroup) return plot.show(times, [{ name: words(column.name), values: windows.map((row) => row[column.name]).reverse() }]);
    const rows = await sql(choose.trendByGroup(view, column));
    const groups = [...new Set(rows.map((row) => row.g))].sort();
    const at = new Map(times.map((time, place) => [time, place]));
    const series = groups.map((name) => ({ name, values: times.map(() => null) }));
    for (const row of rows) {
      if (at.has(row.w)) series[groups.indexOf(row.g)].values[at.get(row.w)] = row.v;
    }
    plot.show(times, series);
  };
  const again = () => last && draw(last);
  const tools = [note, h("span", { class: "grow" })];
  if (view.groups.length && !view.session) {
    tools.push(choice([[false, "all"], [true, "by group"]], false, (chosen) => { byGroup = chosen; plot.clear(); again(); }));
  }
  tools.push(select("Value", view.values.map((it) => [it.name, words(it.name)]), column.name, (name) => {
    column = view.values.find((it) => it.name === name);
    plot.clear();
    again();
  }));
  const { element, body } = panel(view.session ? "Sessions by start" : "Last 100 windows", "", ...tools);
  body.append(host, nothing);
  return { element, refresh: draw };
}

function barsPart(view) {
  let column = view.values[0];
  let scope = view.windowed && !view.session ? "latest" : "all";
  let last = null;
  const scopes = [["latest", "latest"], ...(view.addsUp ? [["all", "all"]] : [])];
  const note = h("span", { class: "muted" });
  const draw = async (news) => {
    last = news;
    const window = scope === "latest" ? news.windows[0]?.w : undefined;
    const rows = scope === "latest" && !window ? [] : await sql(choose.bars(view, column, window));
    fill(body, [column.name, scope, rows], () => {
      if (rows.length === 0) return empty("No groups yet.");
      note.textContent = rows[0].groups > rows.length ? `largest ${rows.length} of ${number(rows[0].groups)}` : "";
      const top = Math.max(...rows.map((row) => Math.abs(row.v ?? 0)), 1e-9);
      const sum = column.additive ? rows.reduce((total, row) => total + (row.v ?? 0), 0) : null;
      return h("ul", { class: "bars", id: "bars" }, rows.map((row) => bar(row.g, row.v, Math.abs(row.v ?? 0) / top, sum && row.groups <= rows.length ? row.v / sum : null, column)));
    });
  };
  const again = () => last && draw(last);
  const tools = [note, h("span", { class: "grow" })];
  if (view.windowed && !view.session && scopes.length > 1) {
    tools.push(choice(scopes, scope, (chosen) => { scope = chosen; again(); }));
  }
  tools.push(select("Value", view.values.map((it) => [it.name, words(it.name)]), column.name, (name) => {
    column = view.values.find((it) => it.name === name);
    again();
  }));
  const title = `By ${view.groups.map((group) => words(group.name)).join(" and ")}`;
  const { element, body } = panel(title, "", ...tools);
  return { element, refresh: draw };
}

function bar(name, value, share, part, column) {
  const shown = column.type === "boolean" ? percent(value) : number(value);
  return h("li", { share }, h("span", { class: "label", title: name }, name),
    h("span", { class: "amount", "data-group": name, "data-value": String(value) }, shown, part === null ? null : h("small", {}, percent(part))));
}

function funnelPart(view) {
  let scope = view.windowed ? "latest" : "all";
  let group = "";
  let last = null;
  const groups = h("span", {});
  const draw = async (news) => {
    last = news;
    const window = scope === "latest" ? news.windows[0]?.w : undefined;
    const rows = scope === "latest" && !window ? [] : await sql(choose.funnel(view, window));
    fill(groups, rows.map((row) => row.g), () => view.groups.length === 0 || rows.length < 2 ? [] :
      select("Group", [["", "all groups"], ...rows.map((row) => [row.g, row.g])], group, (name) => { group = name; draw(last); }));
    const shown = rows.filter((row) => group === "" || row.g === group);
    fill(body, [scope, group, rows], () => (shown.length === 0 ? empty("Nobody has entered the funnel yet.") : steps(view, shown)));
  };
  const tools = [h("span", { class: "grow" }), groups];
  if (view.windowed) tools.push(choice([["latest", "latest"], ["all", "all"]], scope, (chosen) => { scope = chosen; draw(last); }));
  const { element, body } = panel("Funnel", "", ...tools);
  return { element, refresh: draw };
}

function steps(view, rows) {
  const counts = view.steps.map((step) => rows.reduce((sum, row) => sum + row[step], 0));
  const converted = counts.at(-1);
  const seconds = rows.reduce((sum, row) => sum + (row.t ?? 0) * row[view.steps.at(-1)], 0) / converted;
  const lines = view.steps.flatMap((step, at) => {
    const ofFirst = counts[0] ? counts[at] / counts[0] : null;
    const lost = at && counts[at - 1] ? 1 - counts[at] / counts[at - 1] : null;
    return [
      lost === null ? null : h("div", { class: "drop" }, `↓ ${percent(1 - lost)} go on, ${number(counts[at - 1] - counts[at])} stop here`),
      h("div", { class: "step" }, h("span", {}, words(step)), h("span", { class: "track", share: ofFirst ?? 0 }),
        h("span", { class: "amount", "data-step": step, "data-value": String(counts[at]) }, number(counts[at]), h("small", {}, percent(ofFirst)))),
    ];
  });
  const time = converted && Number.isFinite(seconds) && seconds > 0 ? `, ${span(seconds)} from first to last step on average` : "";
  return [h("div", { class: "funnel", id: "funnel" }, lines),
    h("p", { class: "muted" }, `${percent(counts[0] ? converted / counts[0] : null)} convert${time}`)];
}

function listsPart(view) {
  const { element, body } = panel("Lists", "");
  return {
    element,
    async refresh() {
      const rows = await sql(choose.lists(view));
      fill(body, rows, () => (rows.length ? h("div", { class: "lists" }, rows.map((row) => view.lists.map((column) => ranking(column, row)))) : empty("No lists yet.")));
    },
  };
}

function ranking(column, row) {
  let items = row[column.name];
  if (typeof items === "string") items = JSON.parse(items);
  const pairs = (items ?? []).map((item) => (Array.isArray(item) ? item : [item, null]));
  const top = Math.max(...pairs.map(([, count]) => count ?? 0), 1);
  const list = h("ul", { class: "bars" }, pairs.map(([name, count]) =>
    h("li", { share: count === null ? 0 : count / top }, h("span", { class: "label" }, String(name)), h("span", { class: "amount" }, count === null ? "" : number(count)))));
  return h("div", {}, h("h3", {}, words(column.name), row.g ? h("span", { class: "muted" }, ` · ${row.g}`) : null),
    pairs.length ? list : empty("empty"));
}
