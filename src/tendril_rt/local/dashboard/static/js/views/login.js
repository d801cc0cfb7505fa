/** Signing in. */

import { button, field, h } from "../dom.js";

/** @param {import("../main.js").Context} context */
export function showLogin({ main, session, title }) {
  title("Sign in");
  const email = h("input", { type: "email", autocomplete: "username", required: true });
  const password = h("input", { type: "password", autocomplete: "current-password" });
  const said = h("p", { class: "problem", role: "alert" });
  const send = button("Sign in", null, { kind: "primary", type: "submit" });
  const link = button(
    "Mail me a link instead",
    () =>
      run(async () => {
        await session.sendLink(email.value.trim());
        said.textContent = "Sent: open the link that is in the mail.";
      }),
    { kind: "quiet" },
  );

  async function run(work) {
    said.textContent = "";
    if (!email.value.trim()) {
      said.textContent = "Your email address, please.";
      email.focus();
      return;
    }
    send.disabled = link.disabled = true;
    try {
      await work();
    } catch (error) {
      said.textContent = error.message;
    }
    send.disabled = link.disabled = false;
  }

  main.append(
    h(
      "form",
      {
        class: "login card",
        onsubmit: (event) => {
          event.preventDefault();
          run(() => session.signIn(email.value.trim(), password.value));
        },
      },
      h("h1", {}, "Sign in"),
      h("p", { class: "muted" }, `to the control plane at ${new URL(session.plane.url).host}`),
      field("Email", email),
      field("Password", password),
      said,
      h("div", { class: "actions stretch" }, send, link),
    ),
  );
  email.focus();
}
