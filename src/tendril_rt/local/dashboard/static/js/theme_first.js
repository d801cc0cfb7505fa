/* A plain script in the head, so that a page never flashes in the other theme before modules load. */
try {
  const chosen = localStorage.getItem("tendril-theme");
  if (chosen === "dark" || chosen === "light") {
    document.documentElement.dataset.theme = chosen;
  }
} catch {
  // Storage may be forbidden: then the system's preference counts.
}
