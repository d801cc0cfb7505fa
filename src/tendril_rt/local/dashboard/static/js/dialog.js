/** Questions and news over the page: modal dialogs and toasts. */

import { button, h } from "./dom.js";

/**
 * Ask; resolves to what `submit` returns, or null when it is put away.
 * @param {object} question
 * @param {string} question.title
 * @param {Node[]} question.body
 * @param {string} question.action the label of the button
 * @param {() => Promise<*>} question.submit throws what is then shown; undefined keeps it open
 */
export function ask({ title, body, action, submit, kind = "primary", canSubmit = () => true }) {
  return new Promise((resolve) => {
    let answer = null;
    const problem = h("p", { class: "problem", role: "alert" });
    const send = button(action, null, { kind, type: "submit" });
    const form = h(
      "form",
      {
        method: "dialog",
        class: "dialog-form",
        oninput: () => check(),
        onsubmit: async (event) => {
          event.preventDefault();
          problem.textContent = "";
          send.disabled = true;
          try {
            answer = await submit();
            if (answer !== undefined) {
              dialog.close();
            }
          } catch (error) {
            problem.textContent = error.message;
          }
          check();
        },
      },
      h("h2", {}, title),
      ...body,
      problem,
      h(
        "div",
        { class: "actions" },
        button("Cancel", () => dialog.close()),
        send,
      ),
    );
    const dialog = opened(form, title, () => resolve(answer ?? null));
    const check = () => {
      send.disabled = !canSubmit();
    };
    check();
  });
}

/** Tell something that is to be read before it is put away. */
export function tell({ title, body }) {
  return new Promise((resolve) => {
    const content = h(
      "div",
      { class: "dialog-form" },
      h("h2", {}, title),
      ...body,
      h(
        "div",
        { class: "actions" },
        button("Done", () => dialog.close(), { kind: "primary" }),
      ),
    );
    const dialog = opened(content, title, resolve);
  });
}

function opened(content, label, onclose) {
  const dialog = h(
    "dialog",
    {
      "aria-label": label,
      onclose: () => {
        dialog.remove();
        onclose();
      },
    },
    content,
  );
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Say something that needs no answer. */
export function toast(text, kind = "info") {
  const place =
    document.querySelector(".toasts") ??
    document.body.appendChild(h("div", { class: "toasts", role: "status", "aria-live": "polite" }));
  const item = place.appendChild(h("div", { class: `toast ${kind}` }, text));
  setTimeout(() => item.remove(), 6000);
}

/** A text that is to be copied, with the button that does it. */
export function copyable(text, label) {
  const copy = button(
    "Copy",
    async () => {
      await navigator.clipboard.writeText(text);
      copy.querySelector("span").textContent = "Copied";
      setTimeout(() => {
        copy.querySelector("span").textContent = "Copy";
      }, 2000);
    },
    { iconName: "copy", "aria-label": `Copy ${label}` },
  );
  return h("div", { class: "copyable" }, h("pre", { tabindex: "0", "aria-label": label }, text), copy);
}
