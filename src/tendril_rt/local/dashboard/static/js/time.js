/** Times for people. Pure, but for the clock. */

const OFFLINE_AFTER_S = 90; // as the control plane's mark_offline_clusters

/**
 * The control plane's clock, as far as it is known: this machine's may be minutes off, and would
 * then call every cluster dead. Events say when they were committed, and arrive a moment later.
 */
export class Clock {
  #aheadMs = null;

  /** @param {string} committedAt of an event that arrived just now */
  observe(committedAt) {
    const ahead = Date.parse(committedAt) - Date.now();
    if (Number.isFinite(ahead)) {
      this.#aheadMs = Math.max(this.#aheadMs ?? -Infinity, ahead);
    }
  }

  now() {
    return Date.now() + (this.#aheadMs ?? 0);
  }

  /** Seconds since a time of the control plane, never below 0; null if there is none. */
  age(at) {
    return at ? Math.max(0, (this.now() - Date.parse(at)) / 1000) : null;
  }
}

/** A cluster's status, where silence counts although nobody wrote it down yet. */
export function clusterStatus(cluster, clock) {
  const age = clock.age(cluster.last_heartbeat);
  return cluster.status === "ONLINE" && (age === null || age > OFFLINE_AFTER_S) ? "OFFLINE" : cluster.status;
}

/** For example "now", "12 s ago", "3 min ago". */
export function ago(seconds) {
  if (seconds === null) {
    return "never";
  }
  return seconds < 1 ? "now" : `${duration(Math.floor(seconds))} ago`;
}

/** For example "0.4 s", "41 s", "2 min 5 s", "1 h 12 min", "3 d". */
export function duration(seconds) {
  if (seconds === null || !Number.isFinite(seconds)) {
    return "–";
  }
  if (seconds < 10 && !Number.isInteger(seconds)) {
    return `${seconds.toFixed(1)} s`;
  }
  const whole = Math.round(seconds);
  const units = [
    [86400, "d", 3600, "h"],
    [3600, "h", 60, "min"],
    [60, "min", 1, "s"],
  ];
  for (const [size, name, minor, minorName] of units) {
    if (whole >= size) {
      const rest = Math.floor((whole % size) / minor);
      return `${Math.floor(whole / size)} ${name}${rest ? ` ${rest} ${minorName}` : ""}`;
    }
  }
  return `${whole} s`;
}

/** Seconds between two times of the control plane; up to now where the second is missing. */
export function between(from, to, clock) {
  return from ? Math.max(0, ((to ? Date.parse(to) : clock.now()) - Date.parse(from)) / 1000) : null;
}

/** A moment in the reader's own time zone. */
export function moment(at) {
  return at ? new Date(at).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" }) : "–";
}
