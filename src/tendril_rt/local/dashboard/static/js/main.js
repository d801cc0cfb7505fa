/** The page: configuration, session, frame, and the view that the address names. */

import { Api } from "./api.js";
import { toast } from "./dialog.js";
import { h } from "./dom.js";
import { Frame } from "./frame.js";
import { Live } from "./live.js";
import { href, routeOf } from "./router.js";
import { Session } from "./session.js";
import { Clock } from "./time.js";
import { showCluster } from "./views/cluster.js";
import { showClusters } from "./views/clusters.js";
import { showConfiguration } from "./views/configuration.js";
import { showConfigurations } from "./views/configurations.js";
import { showLogin } from "./views/login.js";
import { showProvision } from "./views/provision.js";

const VIEWS = {
  clusters: (context, { id }) => (id ? showCluster(context, id) : showClusters(context)),
  configurations: (context, { id, query }) =>
    id ? showConfiguration(context, id === "new" ? null : id, query) : showConfigurations(context),
  provisions: (context, { id }) => showProvision(context, id),
};

/**
 * What a view is given.
 * @typedef {{api: Api, live: Live, clock: Clock, session: Session, signal: AbortSignal, main: HTMLElement,
 *   report: (error: ?Error) => void, title: (text: string) => void}} Context
 */

async function readConfig() {
  const response = await fetch("config.json", { cache: "no-store" });
  if (!response.ok) {
    throw new Error("config.json is missing beside index.html: it names the control plane (url, anon_key)");
  }
  const { url, anon_key: anonKey } = await response.json();
  return { url: url || location.origin, anonKey };
}

async function start() {
  const app = document.getElementById("app");
  let session;
  try {
    session = new Session(await readConfig());
  } catch (error) {
    app.replaceChildren(
      h("p", { class: "fatal", role: "alert" }, `The dashboard cannot start: ${error.message}`),
    );
    return;
  }
  const problem = await session.start();
  if (problem) {
    toast(problem, "warning");
  }
  const direct = { ...session.plane, token: () => session.token() };
  const shared = { api: new Api(session.client, direct), clock: new Clock(), session };
  const frame = new Frame(app, session);
  let ending = new AbortController();

  function show() {
    ending.abort();
    ending = new AbortController();
    const live = new Live(session.client);
    const context = {
      ...shared,
      live,
      signal: ending.signal,
      main: frame.freshMain(),
      report: (error) => frame.report(error),
      title: (text) => frame.title(text),
    };
    frame.follow(live, ending.signal);
    if (!session.user) {
      showLogin(context);
      return;
    }
    const route = routeOf(location.hash);
    frame.mark(route.name);
    (VIEWS[route.name] ?? (() => location.replace(href("clusters"))))(context, route);
  }

  addEventListener("hashchange", show);
  session.addEventListener("change", show);
  show();
}

start();
