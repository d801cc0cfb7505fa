/**
 * Keep what is shown true: load at once, when Realtime is ready, when the page is seen again, and
 * every so often, sooner while Realtime is away.
 */

const LIVE_MS = 15_000;
const POLLING_MS = 3000;
const TICK_MS = 1000;
const GATHER_MS = 150; // events come in bursts

/**
 * @param {object} options
 * @param {() => Promise<void>} options.load loads and shows; never called twice at a time
 * @param {import("./live.js").Live} options.live
 * @param {object[]} options.bindings
 * @param {(payload: object) => boolean} [options.onEvent] true: that was all; else load
 * @param {(error: ?Error) => void} options.onResult after each load
 * @param {AbortSignal} options.signal
 * @param {number} [options.gatherMs] between two loads at least
 * @returns {() => Promise<void>} loads soon
 */
export function keepFresh({ load, live, bindings, onEvent = () => false, onResult, signal, gatherMs = GATHER_MS }) {
  let running = null;
  let isWanted = false;
  let loadedAt = 0;

  async function loadNow() {
    while (isWanted && !signal.aborted) {
      isWanted = false;
      loadedAt = Date.now();
      try {
        await load();
        onResult(null);
      } catch (error) {
        if (!signal.aborted) {
          onResult(error);
        }
      }
      await new Promise((done) => setTimeout(done, gatherMs));
    }
  }

  function want() {
    isWanted = true;
    running ??= loadNow().finally(() => {
      running = null;
    });
    return running;
  }

  const watch = live.watch(bindings, {
    signal,
    onReady: want,
    onEvent: (payload) => onEvent(payload) || want(),
  });
  const timer = setInterval(() => {
    const due = watch.state === "live" ? LIVE_MS : POLLING_MS;
    if (!document.hidden && Date.now() - loadedAt >= due) {
      want();
    }
  }, TICK_MS);
  const seen = () => document.hidden || want();
  document.addEventListener("visibilitychange", seen);
  signal.addEventListener("abort", () => {
    clearInterval(timer);
    document.removeEventListener("visibilitychange", seen);
  });
  want();
  return want;
}
