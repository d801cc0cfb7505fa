// Reads JSON texts, one per line as a JSON string; writes the hash of each, or why there is none.
import { createInterface } from "node:readline";
import { NoHash, snapshotHash } from "../../src/tendril_rt/local/dashboard/static/js/canonical.js";
import { JsonError } from "../../src/tendril_rt/local/dashboard/static/js/exact_json.js";

for await (const line of createInterface({ input: process.stdin })) {
  try {
    console.log(await snapshotHash(JSON.parse(line)));
  } catch (error) {
    if (!(error instanceof NoHash || error instanceof JsonError)) {
      throw error;
    }
    console.log(error.name);
  }
}
