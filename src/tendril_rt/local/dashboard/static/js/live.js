/**
 * Changes as they happen, by Supabase Realtime, and the truth about whether they do.
 *
 * Realtime delivers at most once, and a channel can be joined and yet deaf. So an event is a hint, or
 * a copy that numbers can check; "ready" is what the server says once it really listens; and whoever
 * watches also asks the database now and then. Each opening of a channel has a topic of its own:
 * a late goodbye of the one before must not close it.
 */

const RETRY_MS = [500, 1000, 2000, 5000, 10_000];

let opened = 0;

export class Live extends EventTarget {
  #watches = new Set();

  constructor(client) {
    super();
    this.client = client;
  }

  /** "live": every watch is heard; "waiting": the first look is under way; "polling": one is not. */
  get state() {
    const states = [...this.#watches].map((watch) => watch.state);
    if (states.includes("polling")) {
      return "polling";
    }
    return states.includes("waiting") ? "waiting" : "live";
  }

  /**
   * Watch tables until the signal says stop.
   * @param {{table: string, event?: string, filter?: string}[]} bindings
   * @param {{onEvent: (payload: object) => void, onReady: () => void, signal: AbortSignal}} with
   */
  watch(bindings, { onEvent, onReady, signal }) {
    const watch = new Watch(this.client, bindings, onEvent, onReady, () => this.#changed());
    this.#watches.add(watch);
    watch.open();
    signal.addEventListener("abort", () => {
      this.#watches.delete(watch);
      watch.close();
      this.#changed();
    });
    return watch;
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

class Watch {
  #channel = null;
  #retry = null;
  #failures = 0;

  constructor(client, bindings, onEvent, onReady, onState) {
    Object.assign(this, { client, bindings, onEvent, onReady, onState, state: "waiting" });
  }

  open() {
    opened += 1;
    const channel = this.client.channel(`dashboard:${opened}`);
    for (const { table, event = "*", filter } of this.bindings) {
      const binding = { event, schema: "public", table, ...(filter ? { filter } : {}) };
      channel.on("postgres_changes", binding, (payload) => this.onEvent(payload));
    }
    channel.on("system", {}, ({ extension, status }) => {
      if (channel === this.#channel && extension === "postgres_changes") {
        status === "ok" ? this.#ready() : this.#lost();
      }
    });
    this.#channel = channel;
    channel.subscribe((status) => {
      if (channel === this.#channel && status !== "SUBSCRIBED") {
        this.#lost();
      }
    });
  }

  close() {
    clearTimeout(this.#retry);
    const channel = this.#channel;
    this.#channel = null;
    if (channel) {
      this.client.removeChannel(channel);
    }
  }

  #ready() {
    this.#failures = 0;
    this.#enter("live");
    this.onReady();
  }

  #lost() {
    this.close();
    this.#enter("polling");
    this.#retry = setTimeout(() => this.open(), RETRY_MS[Math.min(this.#failures, RETRY_MS.length - 1)]);
    this.#failures += 1;
  }

  #enter(state) {
    this.state = state;
    this.onState();
  }
}
