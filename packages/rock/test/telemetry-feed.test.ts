import type { Telemetry } from "@ale/core";
import { describe, expect, test } from "vitest";
import { TelemetryFeed } from "../src/server/telemetry-feed.ts";

const record = (at: number): Telemetry => ({ at, kind: "process.exec", source: "tracefs", sandbox: "sb" });

function feedOf(kept: number) {
  let tell: (record: Telemetry) => void = () => {};
  const state = { listening: true, unused: 0 };
  const feed = new TelemetryFeed({
    kept,
    lingerMs: 20,
    listen: (told) => {
      tell = told;
      return {
        [Symbol.dispose]: () => {
          state.listening = false;
        },
      };
    },
    onUnused: () => void state.unused++,
  });
  return { feed, state, say: (...at: number[]) => at.forEach((one) => void tell(record(one))) };
}

/** All that a reader is told once it is over. */
async function told(reader: ReturnType<TelemetryFeed["join"]>) {
  reader.end();
  const events: [string, unknown, string | undefined][] = [];
  for await (const { event, data, id } of reader.events())
    events.push([event, event === "record" ? (data as Telemetry).at : data, id]);
  return events;
}

describe("what is told of a sandbox on a server", () => {
  test("goes on after the last record that a reader has", async () => {
    const { feed, say } = feedOf(10);
    const first = feed.join();
    say(1, 2);
    const heard = await told(first);
    expect(heard.map(([event, at]) => (event === "record" ? at : event))).toEqual(["listening", 1, 2]);
    say(3, 4);
    const again = await told(feed.join(heard[1]![2]));
    expect(again.map(([event, at]) => (event === "record" ? at : event))).toEqual(["listening", 2, 3, 4]);
    const now = await told(feed.join());
    expect(now).toEqual([["listening", { cursor: again.at(-1)![2] }, undefined]]);
  });

  test("says how many records are gone where it has not kept them, and that nobody knows where it was begun anew", async () => {
    const { feed, say } = feedOf(3);
    const [[, place]] = (await told(feed.join())) as [[string, { cursor: string }, undefined]];
    // Between three and six are kept.
    say(1, 2, 3, 4, 5, 6);
    const late = await told(feed.join(place.cursor));
    expect(late.slice(1).map(([event, data]) => [event, data])).toEqual([
      ["missed", { records: 3 }],
      ["record", 4],
      ["record", 5],
      ["record", 6],
    ]);
    const other = feedOf(3);
    other.say(7);
    const anew = await told(other.feed.join(place.cursor));
    expect(anew.map(([event, data]) => [event, data]).slice(1)).toEqual([["missed", { records: null }]]);
    expect((await told(other.feed.join("nonsense")))[1]).toEqual(["missed", { records: null }, undefined]);
  });

  test("is collected a little longer than anybody reads, and then no more", async () => {
    const { feed, state } = feedOf(3);
    feed.join().end();
    expect(state).toEqual({ listening: true, unused: 0 });
    const back = feed.join();
    await new Promise((resolve) => setTimeout(resolve, 60));
    expect(state.listening).toBe(true);
    back.end();
    await new Promise((resolve) => setTimeout(resolve, 60));
    expect(state).toEqual({ listening: false, unused: 1 });
  });
});
