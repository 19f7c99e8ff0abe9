// The rows of a table as they are: sorted by any column, selected by any condition, in pages.
import { Refused, get } from "./api.js";
import { empty, fill, h, panel } from "./dom.js";
import { cell, number } from "./format.js";

const PAGE = 25;

export function grid(table) {
  const state = { order: "", where: "", offset: 0 };
  const url = `/api/v1/tables/${encodeURIComponent(table.name)}`;
  const note = h("span", { class: "muted" });
  const filter = h("input", { type: "text", placeholder: example(table), "aria-label": "Condition in SQL", spellcheck: "false" });
  const complaint = h("p", { class: "complaint", role: "alert", hidden: true });
  const [previous, next] = [pager("‹ newer", -PAGE), pager("older ›", PAGE)];
  const download = h("a", { class: "button", download: `${table.name}.csv` }, "CSV");
  const { element, body } = panel("Rows", "full", note, h("span", { class: "grow" }), previous, next, download);
  const scroll = h("div", { class: "scroll" });
  body.append(h("form", { class: "tools" }, filter, h("button", { class: "button", type: "submit" }, "filter")), complaint, scroll);
  body.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    Object.assign(state, { where: filter.value.trim(), offset: 0 });
    refresh();
  });

  function pager(text, by) {
    return h("button", { class: "button", type: "button", disabled: true, onclick: () => { state.offset = Math.max(0, state.offset + by); refresh(); } }, text);
  }

  function sort(name) {
    state.order = state.order === `-${name}` ? name : state.order === name ? "" : `-${name}`;
    state.offset = 0;
    refresh();
  }

  async function refresh() {
    const { order, where, offset } = state;
    download.href = `${url}?${new URLSearchParams({ format: "csv", limit: "100000", ...(where && { where }), ...(order && { order }) })}`;
    let page;
    try {
      page = await get(url, { order, where, offset, limit: PAGE });
      complaint.hidden = true;
    } catch (error) {
      if (!(error instanceof Refused) || error.status !== 400) throw error;
      complaint.hidden = false;
      complaint.textContent = error.position === undefined ? error.message : `${where}\n${" ".repeat(error.position)}^ ${error.message}`;
      return;
    }
    previous.disabled = offset === 0;
    next.disabled = !page.more;
    note.textContent = page.rows.length === 0 ? "" : `${number(offset + 1)} – ${number(offset + page.rows.length)}${where ? "" : ` of ${number(page.total)}`}`;
    fill(scroll, [order, page.columns, page.rows, where], () => (page.rows.length ? rows(page, order, sort) : empty(where ? "No row is like this." : "No rows yet.")));
  }

  return { element, refresh };
}

function rows(page, order, sort) {
  const sorted = (name) => (order === name ? "ascending" : order === `-${name}` ? "descending" : undefined);
  const numeric = (column) => ["integer", "decimal"].includes(column.type);
  const head = page.columns.map((column) => h("th", { scope: "col", class: numeric(column) ? "number" : null, "aria-sort": sorted(column.name) },
    h("button", { type: "button", onclick: () => sort(column.name) }, column.name)));
  const line = (row) => h("tr", {}, page.columns.map((column) => {
    const value = row[column.name];
    if (column.name === "final") return h("td", {}, h("span", { class: `tag ${value ? "good" : "open"}` }, value ? "final" : "open"));
    const kind = value === null ? "null" : numeric(column) ? "number" : column.type === "list" ? "long" : null;
    const exact = typeof value === "object" ? JSON.stringify(value) : String(value);
    return h("td", { class: kind, title: exact, "data-column": column.name, "data-value": exact }, column.name === "version" ? String(value) : cell(value, column.type));
  }));
  return h("table", { id: "rows" }, h("thead", {}, h("tr", {}, head)), h("tbody", {}, page.rows.map(line)));
}

function example(table) {
  const value = table.columns.find((column) => column.role === "value" && column.type !== "list" && column.type !== "boolean");
  const group = table.columns.find((column) => column.role === "group" && column.type === "string");
  const parts = [value && `${value.name} > 10`, group && `${group.name} like 'a%'`].filter(Boolean);
  return `where … for example: ${parts.join(" and ") || "final"}`;
}
