// Decides what to show of a table, from its description alone. Pure: no requests, no elements.

/** Sessions start at any moment: they are gathered by the minute in which they start. */
const MINUTE = "substr(window_start, 1, 16) || ':00Z'";

const quote = (name) => `"${name.replaceAll('"', '""')}"`;

/** Describes what can be shown of a table. */
export function view(table) {
  const of = (role) => table.columns.filter((column) => column.role === role);
  const numeric = of("value").filter((column) => ["integer", "decimal", "boolean"].includes(column.type));
  const kind = table.window?.kind ?? "none";
  return {
    name: table.name,
    kind,
    windowed: kind !== "none",
    session: kind === "session",
    /** Rows of overlapping windows count an event several times: they are never added up. */
    addsUp: kind !== "hopping",
    funnel: table.kind === "funnel",
    steps: table.steps ?? [],
    groups: of("group"),
    values: numeric,
    additive: numeric.filter((column) => column.additive),
    lists: of("value").filter((column) => column.type === "list"),
    columns: table.columns,
  };
}

/** Several rows in one number: sums of what adds up, means of the rest. */
function across(column) {
  return `${column.additive ? "sum" : "avg"}(${quote(column.name)}) as ${quote(column.name)}`;
}

/** How `across` adds up, in words. */
export function meaning(view, column) {
  if (view.groups.length === 0 && !view.session) return "";
  if (column.type === "boolean") return "share of rows";
  return column.additive ? "sum" : "mean of rows";
}

/** The last windows, newest first: `w`, `n` rows, `f` whether all are final, and every value. */
export function trend(view, windows = 100) {
  const bucket = view.session ? MINUTE : "window_start";
  const values = view.values.map(across);
  return `select ${[`${bucket} as w`, "count(*) as n", "min(final) as f", "max(window_end) as e", ...values].join(", ")}
    from ${quote(view.name)} group by 1 order by 1 desc limit ${windows}`;
}

/** One value of the last windows for each of the groups that are largest in them: `w`, `g`, `v`. */
export function trendByGroup(view, column, windows = 100, groups = 6) {
  const table = quote(view.name);
  const bucket = view.session ? MINUTE : "window_start";
  const function_ = column.additive ? "sum" : "avg";
  return `with part as (select ${bucket} as w, ${label(view)} as g, ${quote(column.name)} as v from ${table}
      where window_start >= (select min(w) from (select ${bucket} as w from ${table} group by 1 order by 1 desc limit ${windows}))),
    largest as (select g from part group by g order by sum(v) desc, g limit ${groups})
    select w, g, ${function_}(v) as v from part where g in (select g from largest) group by w, g order by w`;
}

/** One value by group, the largest first: `g`, `v`. */
export function bars(view, column, window, limit = 12) {
  const where = window ? `where window_start = '${window.replaceAll("'", "''")}'` : "";
  const function_ = column.additive ? "sum" : "avg";
  return `select ${label(view)} as g, ${function_}(${quote(column.name)}) as v, count(*) over () as groups
    from ${quote(view.name)} ${where} group by 1 order by v desc, g limit ${limit}`;
}

/** Everything in one row: `n` rows, `f` final ones, and what adds up. */
export function totals(view) {
  const values = view.addsUp ? view.additive.map(across) : [];
  return `select ${["count(*) as n", "coalesce(sum(final), 0) as f", ...values].join(", ")} from ${quote(view.name)}`;
}

/** A funnel's steps by group: `g`, steps, `t` mean seconds to convert. */
export function funnel(view, window) {
  const where = window ? `where window_start = '${window.replaceAll("'", "''")}'` : "";
  const group = view.groups.length ? label(view) : "'all'";
  const last = quote(view.steps.at(-1));
  const steps = view.steps.map((step) => `coalesce(sum(${quote(step)}), 0) as ${quote(step)}`);
  const time = `sum("seconds_to_convert" * ${last}) / nullif(sum(case when "seconds_to_convert" is not null then ${last} end), 0) as t`;
  return `select ${[`${group} as g`, ...steps, time].join(", ")} from ${quote(view.name)} ${where} group by 1 order by 2 desc, 1 limit 50`;
}

/** The lists of the first or newest rows. */
export function lists(view) {
  const order = view.windowed ? "order by window_start desc" : "";
  const group = view.groups.length ? label(view) : "''";
  return `select ${[`${group} as g`, ...view.lists.map((column) => quote(column.name))].join(", ")} from ${quote(view.name)} ${order} limit 3`;
}

/** The group columns as one text. */
function label(view) {
  if (view.groups.length === 0) return "'all'";
  return view.groups.map((column) => `coalesce(${quote(column.name)}, 'null')`).join(" || ' · ' || ");
}
