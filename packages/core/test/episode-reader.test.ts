import { appendFile, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  chainHead,
  EpisodeLogWriter,
  GENESIS,
  type LogEntry,
  readEpisodeLog,
  scanLogBytes,
  tailEpisodeLog,
  trajectoryOf,
  verifyEpisodeLog,
} from "../src/index.ts";
import { begin, episodeEvents, turn, verdict, writeLog } from "./episode.ts";
import { scratchFolder } from "./scratch.ts";

async function damagedLog(damage: (lines: string[]) => string[]): Promise<string> {
  const path = join(await scratchFolder(), "ep_1.jsonl");
  await writeLog(path, episodeEvents("ep_1"));
  const lines = (await readFile(path, "utf8")).trimEnd().split("\n");
  await writeFile(path, `${damage(lines).join("\n")}\n`);
  return path;
}

describe("verifying a log", () => {
  it("gives the identity of a sealed one", async () => {
    const path = join(await scratchFolder(), "ep_1.jsonl");
    const head = await writeLog(path, episodeEvents("ep_1"));
    expect(await verifyEpisodeLog(path)).toEqual({ ok: true, events: 6, head, sealed: true });
  });

  it("accepts a log that is still open, and an empty one", async () => {
    const folder = await scratchFolder();
    await writeLog(join(folder, "open"), [begin("ep_1"), turn(0)], { seal: false });
    await writeFile(join(folder, "empty"), "");
    expect(await verifyEpisodeLog(join(folder, "open"))).toMatchObject({
      ok: true,
      events: 2,
      sealed: false,
    });
    expect(await verifyEpisodeLog(join(folder, "empty"))).toEqual({
      ok: true,
      events: 0,
      head: GENESIS,
      sealed: false,
    });
  });

  it.each<[string, string, number, (lines: string[]) => string[]]>([
    ["a changed line", "bad-hash", 3, (lines) => lines.with(2, lines[2]!.replace("moss", "mess"))],
    ["a missing line", "seq-gap", 3, (lines) => lines.toSpliced(2, 1)],
    ["a repeated line", "seq-gap", 3, (lines) => lines.toSpliced(2, 0, lines[1]!)],
    ["a missing beginning", "seq-gap", 1, (lines) => lines.slice(1)],
    ["a line that is no JSON", "bad-json", 2, (lines) => lines.with(1, "oops")],
    [
      "a hash that is none",
      "bad-line",
      2,
      (lines) => lines.with(1, lines[1]!.replace(/"prev":"./, '"prev":"x')),
    ],
  ])("names the first broken line: %s", async (_, reason, line, damage) => {
    const path = await damagedLog(damage);
    expect(await verifyEpisodeLog(path)).toMatchObject({ ok: false, line, reason });
  });

  it("finds a history that was rewritten with new hashes, by the head that somebody noted", async () => {
    const folder = await scratchFolder();
    const head = await writeLog(join(folder, "true"), episodeEvents("ep_1"));
    const forged = await writeLog(join(folder, "forged"), [begin("ep_1"), turn(0), verdict(1)]);
    expect(await verifyEpisodeLog(join(folder, "forged"))).toMatchObject({ ok: true });
    expect(forged).not.toBe(head);
  });

  it("tells a torn tail", async () => {
    const path = join(await scratchFolder(), "ep_1.jsonl");
    await writeLog(path, [begin("ep_1")], { seal: false });
    await appendFile(path, '{"at":');
    expect(await verifyEpisodeLog(path)).toMatchObject({
      ok: false,
      reason: "torn-tail",
      line: 2,
      events: 1,
    });
  });

  it("tells anything that follows the seal", async () => {
    const path = join(await scratchFolder(), "ep_1.jsonl");
    await writeLog(path, episodeEvents("ep_1"));
    await appendFile(path, "x");
    expect(await verifyEpisodeLog(path)).toMatchObject({ ok: false, reason: "event-after-seal", line: 7 });
  });

  it("detects a change of any single byte to any other value", async () => {
    const path = join(await scratchFolder(), "ep_1.jsonl");
    await writeLog(path, episodeEvents("ep_1"));
    const bytes = await readFile(path);
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), (at, mask) => {
        const changed = Uint8Array.from(bytes);
        changed[at]! ^= mask;
        const { log, fault } = scanLogBytes(path, changed);
        expect(fault !== null || log.tornBytes > 0).toBe(true);
      }),
      { numRuns: 2000 },
    );
  });

  it("detects a flipped bit in every byte, also by the hashes alone", async () => {
    const path = join(await scratchFolder(), "ep_1.jsonl");
    await writeLog(path, episodeEvents("ep_1"));
    const bytes = Uint8Array.from(await readFile(path));
    const { head } = await readEpisodeLog(path);
    expect(chainHead(bytes)).toBe(head);
    const undetected: number[] = [];
    for (let at = 0; at < bytes.length; at++) {
      bytes[at]! ^= 1 << (at % 8);
      const { log, fault } = scanLogBytes(path, bytes);
      if ((fault === null && log.tornBytes === 0) || chainHead(bytes) === head) undetected.push(at);
      bytes[at]! ^= 1 << (at % 8);
    }
    expect(undetected).toEqual([]);
  });
});

describe("reading a log", () => {
  it("gives what training reads", async () => {
    const path = join(await scratchFolder(), "ep_1.jsonl");
    await writeLog(path, episodeEvents("ep_1"));
    const trajectory = trajectoryOf((await readEpisodeLog(path)).events);
    expect(trajectory).toMatchObject({ episode: "ep_1", verdict: { reward: 1 }, termination: "submitted" });
    expect(trajectory.chunks[0]?.tokens).toEqual([5, 6, 7]);
  });

  it("stops before a line that is still being written", async () => {
    const path = join(await scratchFolder(), "ep_1.jsonl");
    await writeLog(path, [begin("ep_1"), turn(0)], { seal: false });
    await appendFile(path, '{"at":');
    expect(await readEpisodeLog(path)).toMatchObject({
      sealed: false,
      tornBytes: 6,
      events: [begin("ep_1"), turn(0)],
    });
  });

  it("fails on damage with the place and what to do", async () => {
    const path = await damagedLog((lines) => lines.with(2, lines[2]!.replace("moss", "mess")));
    await expect(readEpisodeLog(path)).rejects.toMatchObject({
      code: "log.damaged",
      message: expect.stringContaining("line 3 is broken (bad-hash)"),
      next: expect.stringContaining("restore"),
    });
  });

  it("fails on a newer major version by saying so", async () => {
    const path = await damagedLog((lines) => lines.with(0, lines[0]!.replace('"v":1}', '"v":2}')));
    await expect(readEpisodeLog(path)).rejects.toMatchObject({
      code: "log.version",
      message: expect.stringContaining("format version 2"),
      next: expect.stringContaining("newer"),
    });
  });

  it("says that there is no such log", async () => {
    const path = join(await scratchFolder(), "none");
    await expect(readEpisodeLog(path)).rejects.toMatchObject({ code: "log.missing" });
    await expect(verifyEpisodeLog(path)).rejects.toMatchObject({ code: "log.missing" });
    await expect(tailEpisodeLog(path).next()).rejects.toMatchObject({ code: "log.missing" });
  });
});

describe("following a log", () => {
  it("yields what is there, then what is added, and ends after the seal", async () => {
    const path = join(await scratchFolder(), "ep_1.jsonl");
    await using writer = await EpisodeLogWriter.create(path);
    writer.append(begin("ep_1"));
    await writer.flush();
    const seen: string[] = [];
    for await (const { event } of tailEpisodeLog(path)) {
      seen.push(event.type);
      if (event.type === "episode.begin") writer.append(turn(0));
      if (event.type === "model.call") writer.append(verdict(1));
      if (event.type === "verdict") await writer.seal();
    }
    expect(seen).toEqual(["episode.begin", "model.call", "verdict", "episode.seal"]);
  });

  it("never yields a part of a line", async () => {
    const folder = await scratchFolder();
    await writeLog(join(folder, "whole"), episodeEvents("ep_1"));
    const bytes = await readFile(join(folder, "whole"));
    const path = join(folder, "growing");
    await writeFile(path, "");
    const feeding = (async () => {
      for (let at = 0; at < bytes.length; at += 977) {
        await appendFile(path, bytes.subarray(at, at + 977));
        await new Promise((resolve) => setTimeout(resolve, 30));
      }
    })();
    const entries: LogEntry[] = [];
    for await (const entry of tailEpisodeLog(path)) entries.push(entry);
    await feeding;
    expect(entries).toEqual((await readEpisodeLog(join(folder, "whole"))).entries);
  });

  it("ends quietly when it is aborted, at once", async () => {
    const path = join(await scratchFolder(), "ep_1.jsonl");
    await writeLog(path, [begin("ep_1")], { seal: false });
    const controller = new AbortController();
    const seen: LogEntry[] = [];
    setTimeout(() => controller.abort(), 150);
    for await (const entry of tailEpisodeLog(path, controller.signal)) seen.push(entry);
    expect(seen).toHaveLength(1);
  });

  it("fails on damage", async () => {
    const path = await damagedLog((lines) => lines.with(2, lines[2]!.replace("moss", "mess")));
    const follow = async () => {
      for await (const entry of tailEpisodeLog(path)) expect(entry.seq).toBeLessThan(2);
    };
    await expect(follow()).rejects.toMatchObject({ code: "log.damaged" });
  });
});
