/** Which view an address means: `#/clusters/…`, so that any static host will do. */

/**
 * @param {string} hash of the address
 * @returns {{name: string, id: ?string, query: URLSearchParams}}
 */
export function routeOf(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
  const [name = "", id = null] = path.split("/").map(decodeURIComponent);
  return { name: name || "clusters", id: id || null, query: new URLSearchParams(query) };
}

/** The address of a view. */
export function href(name, id = null) {
  return id ? `#/${name}/${encodeURIComponent(id)}` : `#/${name}`;
}
