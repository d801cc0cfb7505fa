import assert from "node:assert/strict";
import { test } from "node:test";
import { LogFeed } from "../../src/tendril_rt/local/dashboard/static/js/log_feed.js";

/** Repeatable numbers below 1: the seed of a failure is in its message. */
function randomFrom(seed) {
  let state = seed;
  return () => {
    state = (state * 1103515245 + 12345) % 2 ** 31;
    return state / 2 ** 31;
  };
}

function rowsOf(attempts) {
  return attempts.flatMap((count, index) =>
    Array.from({ length: count }, (_, seq) => ({ attempt: index + 1, seq, log_chunk: `${index + 1}:${seq}` })),
  );
}

/** A feed over a table that grows, and what it passed on. */
function feedOver(stored, { page = 7, random = () => 0.5 } = {}) {
  const seen = [];
  const feed = new LogFeed({
    async fetchAfter(attempt, seq) {
      if (random() < 0.3) {
        await Promise.resolve();
      }
      return stored
        .filter((row) => row.attempt === attempt && row.seq > seq)
        .sort((a, b) => a.seq - b.seq)
        .slice(0, page);
    },
    onRows: (rows) => seen.push(...rows.map((row) => row.log_chunk)),
    pause: async () => {},
  });
  return { feed, seen };
}

test("every row once and in order, whatever the socket loses, doubles and swaps", async () => {
  for (let seed = 1; seed <= 300; seed += 1) {
    const random = randomFrom(seed);
    const all = rowsOf([Math.floor(random() * 30), Math.floor(random() * 30), 1 + Math.floor(random() * 30)]);
    const stored = [];
    const { feed, seen } = feedOver(stored, { random });
    const early = [];
    const pending = [];
    for (const row of all) {
      stored.push(row);
      early.push(row);
      feed.expectAttempt(row.attempt);
      while (early.length && random() < 0.6) {
        const [event] = early.splice(Math.floor(random() * early.length), 1);
        for (let times = random() < 0.2 ? 0 : random() < 0.2 ? 2 : 1; times > 0; times -= 1) {
          if (!feed.offer(event) && random() < 0.7) {
            pending.push(feed.catchUp());
          }
        }
      }
    }
    await Promise.all(pending);
    await feed.catchUp();
    assert.deepEqual(
      seen,
      all.map((row) => row.log_chunk),
      `seed ${seed}`,
    );
  }
});

test("a hole of the database is passed over, after a second look", async () => {
  const stored = rowsOf([10]).filter((row) => row.seq < 3 || row.seq > 5);
  const { feed, seen } = feedOver(stored);
  await feed.catchUp();
  assert.deepEqual(seen, ["1:0", "1:1", "1:2", "1:6", "1:7", "1:8", "1:9"]);
});

test("what comes late into a gap is waited for once", async () => {
  const all = rowsOf([5]);
  const stored = all.filter((row) => row.seq !== 2);
  const { feed, seen } = feedOver(stored);
  feed.pause = async () => {
    stored.push(all[2]);
  };
  await feed.catchUp();
  assert.deepEqual(
    seen,
    all.map((row) => row.log_chunk),
  );
});

test("what is behind a row may be asked for alone", async () => {
  const { feed, seen } = feedOver(rowsOf([4, 3]));
  feed.startBehind({ attempt: 1, seq: 2 });
  feed.expectAttempt(2);
  await feed.catchUp();
  assert.deepEqual(seen, ["1:3", "2:0", "2:1", "2:2"]);
  assert.deepEqual(feed.position, { attempt: 2, seq: 2 });
});

test("a failure to fetch is told, and the next call goes on", async () => {
  const { feed, seen } = feedOver(rowsOf([3]));
  const fetchAfter = feed.fetchAfter;
  feed.fetchAfter = async () => {
    throw new Error("away");
  };
  await assert.rejects(feed.catchUp(), /away/);
  feed.fetchAfter = fetchAfter;
  await feed.catchUp();
  assert.equal(seen.length, 3);
});
