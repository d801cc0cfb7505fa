// Runs in the page: notes when each marked line is painted, and how long the page was busy at once.
(() => {
  const seen = new Map();
  const tasks = [];
  new PerformanceObserver((list) => tasks.push(...list.getEntries().map((entry) => entry.duration)))
    .observe({ type: "longtask", buffered: true });
  const look = () => {
    const rows = document.querySelector(".xterm-rows");
    for (const [, number, printed] of (rows?.textContent ?? "").matchAll(/mark (\d+) (\d+)/g)) {
      if (!seen.has(number)) {
        seen.set(number, performance.timeOrigin + performance.now() - Number(printed) / 1e6);
      }
    }
    requestAnimationFrame(look); // each frame shows what the one before painted
  };
  requestAnimationFrame(look);
  globalThis.bench = { lags: () => [...seen.values()], longest: () => Math.max(0, ...tasks.splice(0)) };
})();
