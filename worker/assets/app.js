// The page: knows what is shown, when to ask anew, and how the connection is. Everything comes from the API.
import { accounts, figures } from "./accounts.js";
import { get, listen } from "./api.js";
import { h } from "./dom.js";
import { short } from "./format.js";
import { tableView } from "./panels.js";

const $ = (id) => document.getElementById(id);

/** Shortest pause between two rounds of questions, and how many times its own length a round is paused for. */
const PAUSE_MS = 700;
const PAUSE_FACTOR = 3;

const page = { about: null, table: null, refreshTable: null, refreshAccounts: null, refreshFigures: null, dirty: true };

async function start() {
  page.refreshFigures = figures($("figures"));
  await introduce();
  listen(changed, connected);
  for (;;) {
    const began = performance.now();
    if (!document.hidden) await round();
    const took = performance.now() - began;
    await pause(Math.max(PAUSE_MS, took * PAUSE_FACTOR), page.about?.refresh_ms ?? 2000);
  }
}

/** Waits at least `least`, then until something changed or `most` is over. */
async function pause(least, most) {
  await new Promise((done) => setTimeout(done, least));
  if (page.dirty) return;
  await new Promise((done) => {
    const timer = setTimeout(done, Math.max(0, most - least));
    page.wake = () => { clearTimeout(timer); done(); };
  });
}

/** Something changed: in the tables named, or somewhere. */
function changed() {
  page.dirty = true;
  page.wake?.();
}

/** Asks for everything that is shown, once. */
async function round() {
  page.dirty = false;
  try {
    if (!page.about) await introduce();
    const [status, ledger, alerts] = await Promise.all([get("/api/v1/status"), get("/api/v1/ledger"), get("/api/v1/alerts", { limit: 50 })]);
    state(status.state);
    page.refreshFigures(status, ledger, alerts);
    await Promise.all([page.refreshTable?.(), page.refreshAccounts?.({ status, ledger, alerts })]);
    await counts();
    $("fault").hidden = true;
    $("asof").textContent = `as of ${new Date().toISOString().slice(11, 19)}`;
    document.body.dataset.rounds = String(Number(document.body.dataset.rounds ?? 0) + 1);
  } catch (error) {
    $("fault").hidden = false;
    $("fault").textContent = error.status ? `The server says: ${error.message}` : "The server does not answer. Trying again.";
    page.dirty = true;
  }
}

/** Learns what there is, and builds what depends on it. */
async function introduce() {
  try {
    const about = await get("/api/v1/dashboard");
    page.about = about;
    $("pipeline").textContent = about.name;
    $("program").textContent = `clickstream ${about.program}`;
    document.title = `${about.name} · clickstream`;
    page.refreshAccounts = accounts($("accounts"), about);
    const tables = shown();
    const wanted = decodeURIComponent(location.hash.slice(1));
    choose(tables.find((table) => table.name === wanted) ?? tables[0]);
  } catch {
    page.about = null;
  }
}

function shown() {
  return page.about.tables.filter((table) => table.kind !== "system");
}

function choose(table) {
  if (!table) return;
  page.table = table.name;
  history.replaceState(null, "", `#${encodeURIComponent(table.name)}`);
  page.refreshTable = tableView($("table"), table);
  picker();
  changed();
}

function picker() {
  const kinds = { tumbling: "windows", hopping: "hopping", session: "sessions" };
  $("picker").replaceChildren(...shown().map((table) => h("button", {
    type: "button", role: "tab", "aria-selected": String(table.name === page.table), "data-table": table.name, onclick: () => choose(table),
  }, table.name, h("small", { title: `${table.rows} rows` }, `${table.kind === "funnel" ? "funnel" : kinds[table.window?.kind] ?? "totals"} · ${short(table.rows)}`))));
}

/** Row counts in the picker; a table whose epoch changed is shown anew. */
async function counts() {
  const { tables } = await get("/api/v1/tables");
  const epochs = (list) => JSON.stringify(list.map((table) => [table.name, table.epoch]));
  const before = page.about.tables;
  page.about.tables = tables;
  if (epochs(before) !== epochs(tables)) return choose(shown().find((table) => table.name === page.table) ?? shown()[0]);
  if (before.some((table, at) => table.rows !== tables[at].rows)) picker();
}

function state(name) {
  const tones = { running: "good", done: "good", starting: "warn", draining: "warn" };
  $("state").textContent = name;
  $("state").className = `pill ${tones[name] ?? ""}`;
}

function connected(live) {
  $("connection").textContent = live ? "live" : "reconnecting";
  $("connection").className = `pill ${live ? "good" : "bad"}`;
}

document.addEventListener("visibilitychange", changed);
start();
