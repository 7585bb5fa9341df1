import { spawn, spawnSync } from "node:child_process";
import { appendFile, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { describe, expect, it } from "vitest";
import {
  EpisodeLogWriter,
  openEpisodeLog,
  readEpisodeLog,
  scanLogBytes,
  sha256,
  verifyEpisodeLog,
} from "../src/index.ts";
import { begin, end, episodeEvents, handClock, result, turn, verdict, writeLog } from "./episode.ts";
import { scratchFolder } from "./scratch.ts";

const child = (name: string): string => join(import.meta.dirname, "children", name);

describe("writing a log", () => {
  it("records events in order and seals them under one hash", async () => {
    const path = join(await scratchFolder(), "runs", "ep_1.jsonl");
    const events = episodeEvents("ep_1");
    const head = await writeLog(path, events);
    const log = await readEpisodeLog(path);
    expect(log.events).toEqual([...events, { type: "episode.seal", events: events.length }]);
    expect(log).toMatchObject({ head, sealed: true, tornBytes: 0 });
    expect(log.entries.at(-1)?.hash).toBe(head);
  });

  it("stamps monotonic milliseconds since the first line, and wall time", async () => {
    const path = join(await scratchFolder(), "ep_1.jsonl");
    const clock = handClock();
    await using writer = await EpisodeLogWriter.create(path, { clock });
    clock.advance(50);
    writer.append(begin("ep_1"));
    clock.advance(1.2344);
    writer.append(turn(0));
    clock.advance(-5); // a clock that breaks its promise
    writer.append(result(0));
    await writer.seal();
    const { entries } = await readEpisodeLog(path);
    expect(entries.map((entry) => entry.t)).toEqual([0, 1.234, 1.234, 1.234]);
    expect(entries[0]?.at).toBe("2026-03-01T10:00:00.050Z");
  });

  it("is the same to the last bit for the same events and clock", async () => {
    const folder = await scratchFolder();
    const heads = ["a", "b"].map((name) =>
      writeLog(join(folder, name), episodeEvents("ep_1"), { clock: handClock() }),
    );
    const [a, b] = await Promise.all(heads);
    expect(a).toBe(b);
  });

  it("keeps a hundred concurrent logs apart and in order", async () => {
    const folder = await scratchFolder();
    const writeOne = async (name: string): Promise<void> => {
      await using writer = await EpisodeLogWriter.create(join(folder, name));
      writer.append(begin(name));
      for (let chunk = 0; chunk < 20; chunk++) {
        writer.append(turn(chunk));
        writer.append(result(chunk, { content: `${name} ${chunk}` }));
        if (chunk % 3 === 0) await new Promise((resolve) => setTimeout(resolve, chunk % 5));
        if (chunk % 7 === 0) await writer.flush();
      }
      await writer.seal();
    };
    const names = Array.from({ length: 100 }, (_, i) => `ep_${i}`);
    await Promise.all(names.map(writeOne));
    for (const name of names) {
      const { events, sealed } = await readEpisodeLog(join(folder, name));
      expect(sealed).toBe(true);
      const contents = events.flatMap((event) => (event.type === "tool.result" ? [event.content] : []));
      expect(contents).toEqual(Array.from({ length: 20 }, (_, chunk) => `${name} ${chunk}`));
    }
  });

  it("has appended lines in the file after a flush", async () => {
    const path = join(await scratchFolder(), "ep_1.jsonl");
    await using writer = await EpisodeLogWriter.create(path, { sync: "append" });
    writer.append(begin("ep_1"));
    writer.append(turn(0));
    await writer.flush();
    expect((await readEpisodeLog(path)).entries).toHaveLength(2);
    expect(writer.length).toBe(2);
  });

  it("takes nothing more after the seal", async () => {
    const path = join(await scratchFolder(), "ep_1.jsonl");
    await using writer = await EpisodeLogWriter.create(path);
    for (const event of episodeEvents("ep_1")) writer.append(event);
    await writer.seal();
    expect(() => writer.append(turn(1))).toThrow(expect.objectContaining({ code: "log.sealed" }));
    await expect(writer.seal()).rejects.toMatchObject({ code: "log.sealed" });
    expect(await verifyEpisodeLog(path)).toMatchObject({ ok: true, sealed: true });
  });

  it("takes nothing more after close, which may be called twice", async () => {
    const writer = await EpisodeLogWriter.create(join(await scratchFolder(), "ep_1.jsonl"));
    writer.append(begin("ep_1"));
    await writer.close();
    await writer.close();
    expect(() => writer.append(turn(0))).toThrow(expect.objectContaining({ code: "log.closed" }));
  });

  it("starts with exactly one episode.begin, and is sealed by seal alone", async () => {
    await using writer = await EpisodeLogWriter.create(join(await scratchFolder(), "ep_1.jsonl"));
    const misuse = expect.objectContaining({ code: "log.misuse" });
    expect(() => writer.append(turn(0))).toThrow(misuse);
    await expect(writer.seal()).rejects.toMatchObject({ code: "log.misuse" });
    writer.append(begin("ep_1"));
    expect(() => writer.append(begin("ep_1"))).toThrow(misuse);
    expect(() => writer.append({ type: "episode.seal", events: 1 })).toThrow(misuse);
  });

  it("refuses an event without a JSON form, and goes on", async () => {
    const path = join(await scratchFolder(), "ep_1.jsonl");
    await using writer = await EpisodeLogWriter.create(path);
    writer.append(begin("ep_1"));
    expect(() => writer.append({ ...turn(0), logprobs: [Number.NEGATIVE_INFINITY] })).toThrow(TypeError);
    writer.append(turn(0));
    await writer.seal();
    expect(await verifyEpisodeLog(path)).toMatchObject({ ok: true, events: 3 });
  });

  it("never writes over an existing log", async () => {
    const path = join(await scratchFolder(), "ep_1.jsonl");
    await writeLog(path, episodeEvents("ep_1"));
    const before = await readFile(path);
    await expect(EpisodeLogWriter.create(path)).rejects.toMatchObject({ code: "log.exists" });
    expect(await readFile(path)).toEqual(before);
  });

  it("tells of a failed write by flush, by the next append and by close", async () => {
    const path = join(await scratchFolder(), "ep_1.jsonl");
    // A file of at most 8 blocks of 512 or 1024 bytes, whichever the shell counts in.
    const { stdout, stderr } = spawnSync("sh", [
      "-c",
      `ulimit -f 8; exec "$0" "$@"`,
      process.execPath,
      child("append-to-full.ts"),
      path,
    ]);
    expect(`${stdout}`, `${stderr}`).not.toBe("");
    expect(JSON.parse(`${stdout}`)).toEqual({
      flushed: "log.write",
      appended: "log.write",
      closed: "log.write",
    });
    // What could be written is sound, and the torn line is repaired like any other.
    const { writer, log } = await openEpisodeLog(path);
    expect(log.entries.length).toBeGreaterThan(0);
    await writer.close();
  });
});

describe("reopening a log after a crash", () => {
  it("cuts a torn last line off at whichever byte it was torn, records that, and loses no whole line", async () => {
    const folder = await scratchFolder();
    const whole = join(folder, "whole");
    await writeLog(whole, [begin("ep_1"), turn(0), result(0)], { seal: false });
    const bytes = await readFile(whole);
    for (let length = 0; length <= bytes.length; length++) {
      const path = join(folder, "torn");
      const kept = bytes.subarray(0, length);
      await writeFile(path, kept);
      const wholeBytes = kept.lastIndexOf(0x0a) + 1;
      const torn = kept.subarray(wholeBytes);

      const { writer, log, repair } = await openEpisodeLog(path);
      if (!log.events.some((event) => event.type === "episode.begin")) writer.append(begin("ep_1"));
      writer.append(verdict(1));
      await writer.close();

      const after = await readFile(path);
      expect(after.subarray(0, wholeBytes).equals(kept.subarray(0, wholeBytes))).toBe(true);
      const { log: read, fault } = scanLogBytes(path, after);
      expect(fault).toBeNull();
      expect(read.tornBytes).toBe(0);
      const repaired = read.events.filter((event) => event.type === "log.repair");
      const expected = { droppedBytes: torn.length, droppedSha256: sha256(torn) };
      expect(repair).toEqual(torn.length > 0 ? expected : null);
      expect(repaired).toEqual(torn.length > 0 ? [{ type: "log.repair", ...expected }] : []);
      expect(read.events.at(-1)).toEqual(verdict(1));
    }
  }, 120_000);

  it("lets the episode go on to its seal, with time going on too", async () => {
    const path = join(await scratchFolder(), "ep_1.jsonl");
    const clock = handClock();
    const first = await EpisodeLogWriter.create(path, { clock });
    first.append(begin("ep_1"));
    clock.advance(100);
    first.append(turn(0));
    await first.close();
    await appendFile(path, '{"at":"2026');

    clock.advance(5000);
    const { writer, log, repair } = await openEpisodeLog(path, { clock });
    expect(log.events.map((event) => event.type)).toEqual(["episode.begin", "model.call"]);
    expect(repair?.droppedBytes).toBe(11);
    clock.advance(20);
    for (const event of [result(0), end, verdict(1)]) writer.append(event);
    await writer.seal();
    await writer.close();

    const { entries, sealed } = await readEpisodeLog(path);
    expect(sealed).toBe(true);
    expect(entries.map((entry) => entry.t)).toEqual([0, 100, 5100, 5120, 5120, 5120, 5120]);
  });

  it("does not touch a sealed log", async () => {
    const path = join(await scratchFolder(), "ep_1.jsonl");
    await writeLog(path, episodeEvents("ep_1"));
    const before = await readFile(path);
    await expect(openEpisodeLog(path)).rejects.toMatchObject({ code: "log.sealed" });
    expect(await readFile(path)).toEqual(before);
  });

  it.each<[string, (text: string) => string]>([
    ["a changed line", (text) => text.replace("moss", "mess")],
    ["a missing line", (text) => text.split("\n").toSpliced(1, 1).join("\n")],
    ["exchanged lines", (text) => text.replace(/^(.*\n)(.*\n)(.*\n)/, "$1$3$2")],
    ["a changed line before a torn one", (text) => `${text.replace("moss", "mess")}{"at`],
    ["bytes after the seal", (text) => `${text}{"at`],
  ])("refuses to repair %s", async (_, damage) => {
    const path = join(await scratchFolder(), "ep_1.jsonl");
    await writeLog(path, episodeEvents("ep_1"));
    const damaged = damage(await readFile(path, "utf8"));
    await writeFile(path, damaged);
    await expect(openEpisodeLog(path)).rejects.toMatchObject({ code: "log.damaged" });
    expect(await readFile(path, "utf8")).toBe(damaged);
  });

  it("says that there is no such log", async () =>
    await expect(openEpisodeLog(join(await scratchFolder(), "none"))).rejects.toMatchObject({
      code: "log.missing",
    }));

  it("finds every flushed event of a writer that was killed in the middle", async () => {
    const path = join(await scratchFolder(), "ep_1.jsonl");
    const writing = spawn(process.execPath, [child("append-forever.ts"), path], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    let flushed = 0;
    for await (const line of createInterface({ input: writing.stdout })) {
      flushed = Number(line);
      if (flushed > 50) writing.kill("SIGKILL");
    }
    const { writer, log } = await openEpisodeLog(path);
    expect(flushed).toBeGreaterThan(50);
    expect(log.entries.length).toBeGreaterThanOrEqual(flushed);
    writer.append(verdict(null));
    await writer.seal();
    await writer.close();
    expect(await verifyEpisodeLog(path)).toMatchObject({ ok: true, sealed: true });
  });
});
