/**
 * The configuration hash: sha256 of the RFC 8785 form, made by whoever submits.
 *
 * That form writes numbers as ECMAScript does, and sorts keys by UTF-16 units: both come with the
 * language. It knows no integers beyond ±(2^53-1); with one of these there is no hash.
 */

import { Num, parse } from "./exact_json.js";

/** There is no hash, and which value is the reason. */
export class NoHash extends Error {
  constructor(path, kind) {
    super(`${path} is ${kind}, which a configuration hash cannot cover (RFC 8785)`);
    this.name = "NoHash";
    this.path = path;
  }
}

/**
 * The RFC 8785 form of a value of exact_json.
 * @throws {NoHash}
 */
export function canonical(value, path = "config_snapshot") {
  if (value instanceof Num) {
    return canonicalNumber(value, path);
  }
  if (value instanceof Map) {
    const members = [...value.keys()]
      .sort()
      .map((key) => `${JSON.stringify(key)}:${canonical(value.get(key), `${path}.${key}`)}`);
    return `{${members.join(",")}}`;
  }
  if (Array.isArray(value)) {
    return `[${value.map((item, index) => canonical(item, `${path}[${index}]`)).join(",")}]`;
  }
  return JSON.stringify(value);
}

/**
 * The hash of a snapshot's JSON text, in hex.
 * @param {string} text
 * @throws {NoHash}
 */
export async function snapshotHash(text) {
  if (!globalThis.crypto?.subtle) {
    throw new Error("this browser makes hashes only for pages that came over https, or from this machine");
  }
  const bytes = new TextEncoder().encode(canonical(parse(text)));
  const digest = await crypto.subtle.digest("SHA-256", bytes);
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function canonicalNumber(number, path) {
  const double = Number(number.text);
  if (number.isInteger && !Number.isSafeInteger(double)) {
    throw new NoHash(path, "an integer beyond ±(2^53-1)");
  }
  if (!Number.isFinite(double)) {
    throw new NoHash(path, "a number beyond 1.8e308");
  }
  return String(double);
}
