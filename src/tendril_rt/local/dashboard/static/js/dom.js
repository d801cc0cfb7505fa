/** Making elements, and changing no more of the page than has changed. */

const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  back: "M15 5l-7 7 7 7",
  copy: "M9 9h10v10H9zM5 15V5h10",
  down: "M12 4v12m-5-5l5 5 5-5M5 20h14",
  error: "M12 8v5m0 3v.5M12 3l9 17H3z",
  follow: "M12 4v13m-6-6l6 6 6-6",
  leaf: "M5 21C5 11 10 5 20 4c0 10-6 15-13 14",
  moon: "M20 14.500A8 8 0 019.500 4a8 8 0 1010.500 10.500z",
  pause: "M9 5v14M15 5v14",
  play: "M7 5l12 7-12 7z",
  plus: "M12 5v14M5 12h14",
  search: "M11 4a7 7 0 100 14 7 7 0 000-14zm5 12l5 5",
  sun: "M12 7a5 5 0 100 10 5 5 0 000-10zM12 1v2m0 18v2M1 12h2m18 0h2M4.200 4.200l1.400 " +
    "1.400m12.800 12.800l1.400 1.400M4.200 19.800l1.400-1.400M18.400 " +
    "5.600l1.400-1.400",
  top: "M12 20V8m-6 5l6-6 6 6M5 4h14",
  x: "M6 6l12 12M18 6L6 18",
  up: "M6 15l6-6 6 6",
  next: "M6 9l6 6 6-6",
};

/**
 * Make an element. Attributes that are null or false are left out; `on…` are listeners.
 * @param {string} name
 * @param {Record<string, *>} attributes
 * @param {...(Node|string|number|null|false|undefined)} children
 */
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) {
      continue;
    }
    if (key.startsWith("on")) {
      element.addEventListener(key.slice(2), value);
    } else if (key === "value") {
      element.value = value;
    } else {
      element.setAttribute(key, value === true ? "" : value);
    }
  }
  element.append(
    ...children.flat().filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

/** A line icon; decoration only, the words are beside it or in a label. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.append(path);
  return svg;
}

/** A button; with an icon alone its label is for screen readers and on hover. */
export function button(label, onclick, { kind = "", iconName = null, iconOnly = false, ...more } = {}) {
  return h(
    "button",
    {
      type: "button",
      class: `button ${kind} ${iconOnly ? "icon-only" : ""}`.trim(),
      onclick,
      ...(iconOnly ? { "aria-label": label, title: label } : {}),
      ...more,
    },
    iconName && icon(iconName),
    iconOnly ? null : h("span", {}, label),
  );
}

/** Change a text only where it differs: nothing is laid out anew for nothing. */
export function setText(element, text) {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

/** Change an attribute only where it differs; null takes it away. */
export function setAttribute(element, name, value) {
  if (value === null || value === false) {
    element.removeAttribute(name);
  } else if (element.getAttribute(name) !== String(value)) {
    element.setAttribute(name, value);
  }
}

/**
 * Make the children of a parent those of a list, keeping the elements of items that were there.
 * @template T
 * @param {Element} parent
 * @param {T[]} items
 * @param {(item: T) => string} keyOf
 * @param {(item: T) => {element: Element, update: (item: T) => void}} create
 */
export function reconcile(parent, items, keyOf, create) {
  const known = (parent.reconciled ??= new Map());
  const wanted = new Set(items.map(keyOf));
  for (const [key, part] of known) {
    if (!wanted.has(key)) {
      part.element.remove();
      known.delete(key);
    }
  }
  let at = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let part = known.get(key);
    if (!part) {
      part = create(item);
      known.set(key, part);
    }
    part.update(item);
    if (part.element === at) {
      at = at.nextElementSibling;
    } else {
      parent.insertBefore(part.element, at);
    }
  }
}

/** A labelled field of a form, with room for a hint and for what is wrong. */
export function field(label, input, hint = "") {
  const id = `field-${Math.random().toString(36).slice(2)}`;
  const said = h("p", { class: "hint", id: `${id}-hint` }, hint);
  input.id = id;
  input.setAttribute("aria-describedby", said.id);
  return Object.assign(h("div", { class: "field" }, h("label", { for: id }, label), input, said), {
    /** Say what is wrong, or nothing. */
    fault(text) {
      setText(said, text || hint);
      said.classList.toggle("fault", Boolean(text));
      setAttribute(input, "aria-invalid", text ? "true" : null);
    },
  });
}

/** What stands where there is nothing yet, and what to do about it. */
export function empty(title, ...more) {
  return h("div", { class: "empty" }, icon("leaf"), h("h2", {}, title), ...more);
}
