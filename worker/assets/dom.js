// Making elements. Text only ever becomes text: nothing here parses HTML.

/** `h("li", {class: "x", share: 0.5}, "text", child)`; `share` sets the width of bars. */
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "share") element.style.setProperty("--share", `${Math.max(0, Math.min(1, value)) * 100}%`);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A panel with a title; `tools` stand beside the title. Returns the element and the body to fill. */
export function panel(title, shape, ...tools) {
  const body = h("div", { class: "account" });
  const header = h("header", {}, h("h2", {}, title), ...tools);
  const element = h("section", { class: `panel ${shape}`, "aria-label": title }, header, body);
  return { element, header, body };
}

/** Fills `element` only if `key` differs from last time, so that selections and open details stay. */
export function fill(element, key, build) {
  const text = JSON.stringify(key);
  if (element.filled === text) return;
  element.filled = text;
  element.replaceChildren(...[build()].flat(Infinity).filter(Boolean));
}

export function empty(text) {
  return h("p", { class: "empty" }, text);
}

/** Buttons of which one is pressed. */
export function choice(options, chosen, onChoose) {
  const buttons = options.map(([value, label]) =>
    h("button", { type: "button", "aria-pressed": String(value === chosen), onclick: () => {
      buttons.forEach((button) => button.setAttribute("aria-pressed", String(button === buttons[options.findIndex(([it]) => it === value)])));
      onChoose(value);
    } }, label));
  return h("span", { class: "choice", role: "group" }, buttons);
}

export function select(label, options, chosen, onChoose) {
  const element = h("select", { "aria-label": label, onchange: () => onChoose(element.value) },
    options.map(([value, text]) => h("option", { value, selected: value === chosen }, text)));
  return element;
}
