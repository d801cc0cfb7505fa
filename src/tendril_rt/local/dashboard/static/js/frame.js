/** What stands around every view: name, navigation, how live the page is, theme, user. */

import { button, h, icon, setText } from "./dom.js";
import { href } from "./router.js";

const SAID = {
  live: ["Live", "Changes appear as they happen"],
  waiting: ["Connecting", "Waiting for Realtime"],
  polling: ["Polling", "Realtime is away: the page asks every few seconds instead"],
  away: ["Offline", "The control plane cannot be reached; the page keeps trying"],
};

export class Frame {
  #error = null;
  #live = null;

  /** @param {import("./session.js").Session} session */
  constructor(app, session) {
    this.session = session;
    this.main = h("main", { id: "main", tabindex: "-1" });
    this.links = ["clusters", "configurations"].map((name) =>
      h("a", { href: href(name), "data-view": name }, name[0].toUpperCase() + name.slice(1)),
    );
    this.state = h(
      "span",
      { class: "live-state", role: "status" },
      h("i", { "aria-hidden": "true" }),
      h("span", {}),
    );
    this.user = h("span", { class: "user" });
    this.signOut = button("Sign out", () => session.signOut(), { kind: "quiet" });
    this.themeButton = button("Dark or light", () => this.#toggleTheme(), {
      kind: "quiet",
      iconOnly: true,
      iconName: "moon",
    });
    this.nav = h("nav", { "aria-label": "Views" }, ...this.links);
    app.replaceChildren(
      h(
        "header",
        { class: "top" },
        h(
          "a",
          { class: "brand", href: href("clusters") },
          h("img", { src: "icon.svg", alt: "", width: "24", height: "24" }),
          "Tendril",
        ),
        this.nav,
        h("div", { class: "top-right" }, this.state, this.themeButton, this.user, this.signOut),
      ),
      this.main,
    );
    this.#showTheme();
  }

  /** Empty the place of the view. */
  freshMain() {
    const user = this.session.user;
    setText(this.user, user?.email ?? "");
    for (const part of [this.nav, this.state, this.signOut, this.user]) {
      part.hidden = !user;
    }
    this.report(null);
    this.main.replaceChildren();
    this.main.removeAttribute("data-view");
    scrollTo(0, 0);
    return this.main;
  }

  /** Mark which view is shown. */
  mark(name) {
    const near = name === "provisions" ? "clusters" : name;
    this.main.dataset.view = name;
    for (const link of this.links) {
      link.toggleAttribute("aria-current", link.dataset.view === near);
    }
  }

  title(text) {
    document.title = `${text} · Tendril`;
  }

  /** Say how live the page is from now on. */
  follow(live, signal) {
    this.#live = live;
    live.addEventListener("change", () => this.#showState(), { signal });
    this.#showState();
  }

  /** The last load failed, or did not. */
  report(error) {
    this.#error = error;
    this.#showState();
  }

  #showState() {
    const isAway = this.#error && (this.#error.status === 0 || this.#error.status >= 500);
    const state = isAway ? "away" : (this.#live?.state ?? "waiting");
    const [word, more] = SAID[state];
    this.state.dataset.state = state;
    this.state.title = this.#error && !isAway ? this.#error.message : more;
    setText(this.state.lastElementChild, this.#error && !isAway ? "Refused" : word);
  }

  #theme() {
    return (
      document.documentElement.dataset.theme ??
      (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")
    );
  }

  #toggleTheme() {
    const theme = this.#theme() === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    localStorage.setItem("tendril-theme", theme);
    this.#showTheme();
  }

  #showTheme() {
    const other = this.#theme() === "dark" ? "light" : "dark";
    this.themeButton.replaceChildren(icon(other === "dark" ? "moon" : "sun"));
    this.themeButton.setAttribute("aria-label", `Switch to ${other}`);
    this.themeButton.title = `Switch to ${other}`;
  }
}
