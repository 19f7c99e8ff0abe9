// Lines over time, drawn by uPlot. One chart is kept and fed; it is made anew only when its series change.
/* global uPlot */
import { short, number } from "./format.js";

const COLOURS = ["#4cc2ff", "#b094ff", "#3ddc97", "#ffb454", "#ff8ac6", "#5ad8d8"];
const GRID = { stroke: "#1f2a3c", width: 1 };

/** A chart in `host`; `show` takes window starts (text) and series `[{name, values}]`. */
export function chart(host) {
  let plot = null;
  let names = "";
  const size = () => ({ width: Math.max(240, host.clientWidth), height: 236 });
  new ResizeObserver(() => plot?.setSize(size())).observe(host);

  return {
    show(times, series) {
      const columns = [times.map((time) => Date.parse(time) / 1000), ...series.map((one) => one.values)];
      const wanted = JSON.stringify(series.map((one) => one.name));
      if (plot && wanted === names) return plot.setData(columns);
      plot?.destroy();
      names = wanted;
      plot = new uPlot({ ...size(), ...options(series, times.length) }, columns, host);
    },
    clear() {
      plot?.destroy();
      plot = null;
      names = "";
    },
  };
}

function options(series, points) {
  const axis = { stroke: "#9aa8bd", grid: GRID, ticks: GRID, font: "12px system-ui, sans-serif" };
  return {
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
    scales: { y: { range: (_, low, high) => padded(low, high) } },
    axes: [{ ...axis, space: 70, values: (_, ticks, __, ___, step) => ticks.map((tick) => moment(tick, step)) }, { ...axis, size: 62, values: (_, ticks) => ticks.map(short) }],
    cursor: { points: { size: 7 }, y: false },
    // Without a cursor the legend tells the latest window.
    hooks: { setCursor: [(plot) => plot.cursor.idx ?? latest(plot)], setData: [latest], ready: [latest] },
    series: [
      { label: "window", value: (_, seconds) => (seconds ? new Date(seconds * 1000).toISOString().slice(0, 16).replace("T", " ") : "–") },
      ...series.map((one, at) => ({
        label: one.name,
        stroke: COLOURS[at % COLOURS.length],
        width: 2,
        fill: series.length === 1 ? "rgba(76, 194, 255, .13)" : undefined,
        points: { show: points < 40, size: 5 },
        value: (_, value) => number(value),
      })),
    ],
  };
}

function latest(plot) {
  plot.setLegend({ idx: plot.data[0].length - 1 }, false);
}

/** A tick as precise as the distance between ticks. */
function moment(seconds, step) {
  const date = new Date(seconds * 1000);
  if (step >= 86400) return date.toLocaleDateString("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
  return date.toISOString().slice(11, step >= 60 ? 16 : 19);
}

/** From zero where all values are above it, with room at the top. */
function padded(low, high) {
  if (low === null || high === null) return [0, 1];
  const bottom = Math.min(0, low);
  const top = high > bottom ? high + (high - bottom) * 0.08 : bottom + 1;
  return [bottom, top];
}

/** A line without axes, as an SVG of the last values. */
export function spark(values) {
  const namespace = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(namespace, "svg");
  svg.setAttribute("viewBox", "0 0 100 40");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  if (values.length < 2) return svg;
  const top = Math.max(...values, 1e-9);
  const points = values.map((value, at) => `${(at / (values.length - 1)) * 100},${38 - (value / top) * 34}`);
  const area = document.createElementNS(namespace, "polygon");
  area.setAttribute("points", `0,40 ${points.join(" ")} 100,40`);
  area.setAttribute("fill", "rgba(76, 194, 255, .12)");
  const line = document.createElementNS(namespace, "polyline");
  line.setAttribute("points", points.join(" "));
  line.setAttribute("fill", "none");
  line.setAttribute("stroke", "#4cc2ff");
  line.setAttribute("stroke-width", "1.5");
  line.setAttribute("vector-effect", "non-scaling-stroke");
  svg.append(area, line);
  return svg;
}
