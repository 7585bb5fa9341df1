import { spawnSync } from "node:child_process";
import { copyFile, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { beforeEach, describe, expect, it } from "vitest";
import {
  EpisodeIndex,
  type EpisodeStore,
  openEpisodeStore,
  readEpisodeLog,
  summaryOf,
} from "../src/index.ts";
import { alert, begin, end, episodeEvents, handClock, instance, turn, verdict, writeLog } from "./episode.ts";
import { scratchFolder } from "./scratch.ts";

// As root on Linux.
const canMount = process.platform === "linux" && process.getuid?.() === 0;

let folder: string;
let store: EpisodeStore;
let indexPath: string;

/** Four episodes: a pass, a fail with a violation, a scripted one whose environment failed, and one that is still running. */
beforeEach(async () => {
  folder = await scratchFolder();
  indexPath = join(folder, "index.db");
  store = await openEpisodeStore(join(folder, "episodes"));
  const at = (minute: number) => ({ startedAt: `2026-03-01T10:0${minute}:00.000Z` });
  await writeLog(store.path("ep_1"), [begin("ep_1", at(1)), turn(0), turn(1, [8]), end, verdict(1)]);
  await writeLog(store.path("ep_2"), [
    begin("ep_2", { ...at(2), purpose: "eval", run: "run_2" }),
    turn(0),
    alert(0, "low"),
    alert(0, "critical"),
    end,
    verdict(0),
  ]);
  await writeLog(store.path("ep_3"), [
    begin("ep_3", {
      ...at(0),
      purpose: "demo",
      group: null,
      actor: { type: "script", name: "expert" },
      instance: { ...instance, family: "games", domain: "games" },
    }),
    { type: "fault", chunk: null, what: "sandbox", detail: "gone" },
    { type: "episode.end", termination: "environment-fault", chunks: 0 },
  ]);
  await writeLog(store.path("ep_4"), [begin("ep_4", at(4)), turn(0), alert(0, "medium")], { seal: false });
});

const open = () => EpisodeIndex.open(indexPath, store);
const ids = (rows: readonly { id: string }[]): string[] => rows.map((row) => row.id);

describe("the summary of an episode", () => {
  it("says on one line what lists need", async () => {
    await writeLog(store.path("ep_9"), episodeEvents("ep_9"), { clock: handClock() });
    const log = await store.read("ep_9");
    expect(summaryOf(log)).toEqual({
      id: "ep_9",
      run: "run_1",
      group: "group_1",
      purpose: "train",
      instance: "data/train/7",
      family: "data",
      domain: "data-processing",
      split: "train",
      seed: 7,
      actor: "nano",
      version: 4,
      profileHash: begin("ep_9").profileHash,
      termination: "submitted",
      reward: 1,
      environmentFault: null,
      chunks: 1,
      tokens: 3,
      alerts: 0,
      maxSeverity: null,
      violation: false,
      sealed: true,
      events: 6,
      head: log.head,
      startedAt: "2026-03-01T10:00:00.000Z",
      wallMs: 0,
      path: store.path("ep_9"),
    });
  });
});

describe("the index", () => {
  it("holds for each log exactly its summary", async () => {
    using index = await open();
    const expected = await Promise.all(
      (await store.ids()).map(async (id) => summaryOf(await store.read(id))),
    );
    expect(index.query({ orderBy: "startedAt" })).toEqual(
      expected.sort((a, b) => a.startedAt.localeCompare(b.startedAt)),
    );
    expect(index.query({ id: "ep_3" })).toMatchObject([
      {
        actor: "expert",
        version: null,
        reward: null,
        environmentFault: "sandbox",
        termination: "environment-fault",
      },
    ]);
    expect(index.query({ id: "ep_2" })).toMatchObject([
      { alerts: 2, maxSeverity: "critical", violation: true },
    ]);
  });

  it.each<[string, Parameters<EpisodeIndex["query"]>[0], string[]]>([
    ["everything, oldest first", {}, ["ep_3", "ep_1", "ep_2", "ep_4"]],
    ["newest first", { descending: true }, ["ep_4", "ep_2", "ep_1", "ep_3"]],
    ["one run", { run: "run_2" }, ["ep_2"]],
    ["a family", { family: "games" }, ["ep_3"]],
    ["a purpose", { purpose: "train" }, ["ep_1", "ep_4"]],
    ["a policy version", { version: 4 }, ["ep_1", "ep_2", "ep_4"]],
    ["a group", { group: "group_1", sealed: true }, ["ep_1", "ep_2"]],
    ["passes", { minReward: 1 }, ["ep_1"]],
    ["failures", { maxReward: 0 }, ["ep_2"]],
    ["violations", { violation: true }, ["ep_2"]],
    ["no violation", { violation: false, minReward: 1 }, ["ep_1"]],
    ["alerts of at least medium", { minSeverity: "medium" }, ["ep_2", "ep_4"]],
    ["running", { sealed: false }, ["ep_4"]],
    ["by tokens", { orderBy: "tokens", descending: true, limit: 1 }, ["ep_1"]],
    ["a page", { limit: 2, offset: 1 }, ["ep_1", "ep_2"]],
    ["nothing", { run: "' OR 1=1 --" }, []],
  ])("finds %s", async (_, query, expected) => {
    using index = await open();
    expect(ids(index.query(query))).toEqual(expected);
    if (query?.limit === undefined) expect(index.count(query)).toBe(expected.length);
  });

  it.each<[string, Parameters<EpisodeIndex["alerts"]>[0], [string, number][]]>([
    [
      "all of them",
      {},
      [
        ["ep_2", 2],
        ["ep_2", 3],
        ["ep_4", 2],
      ],
    ],
    [
      "one run's",
      { run: "run_2" },
      [
        ["ep_2", 2],
        ["ep_2", 3],
      ],
    ],
    ["one episode's", { episode: "ep_4" }, [["ep_4", 2]]],
    [
      "all of an episode with a bad one",
      { minSeverity: "high" },
      [
        ["ep_2", 2],
        ["ep_2", 3],
      ],
    ],
    ["none since tomorrow", { writtenSince: Date.now() + 86_400_000 }, []],
  ])("finds alerts: %s", async (_, query, expected) => {
    using index = await open();
    expect(index.alerts(query).map(({ episode, seq }) => [episode, seq])).toEqual(expected);
  });

  it("has of an alert what its line says", async () => {
    using index = await open();
    const { entries } = await store.read("ep_2");
    const entry = entries[3]!;
    expect(index.alerts({ run: "run_2" })[1]).toEqual({
      episode: "ep_2",
      seq: 3,
      hash: entry.hash,
      writtenAt: Date.parse(entries[0]!.at) + entry.t,
      alert: entry.known && entry.event.type === "alert" && entry.event.alert,
    });
  });

  it("forgets the alerts of a log that is gone or has changed", async () => {
    (await open()).close();
    await rm(store.path("ep_2"));
    const { writer } = await store.reopen("ep_4");
    writer.append(alert(0, "high"));
    await writer.close();
    using index = await open();
    expect(index.alerts().map(({ episode, alert }) => [episode, alert.severity])).toEqual([
      ["ep_4", "medium"],
      ["ep_4", "high"],
    ]);
  });

  it("takes an episode in when it is sealed, in place of its earlier state", async () => {
    using index = await open();
    const { writer } = await store.reopen("ep_4");
    writer.append(verdict(0));
    await writer.seal();
    await writer.close();
    const summary = index.upsert(await readEpisodeLog(store.path("ep_4")));
    expect(index.query({ id: "ep_4" })).toEqual([summary]);
    expect(summary).toMatchObject({ sealed: true, reward: 0 });
    expect(index.count()).toBe(4);
  });

  it("catches up with logs that were sealed, made or removed while it was closed", async () => {
    (await open()).close();
    const { writer } = await store.reopen("ep_4");
    await writer.seal();
    await writer.close();
    await writeLog(store.path("ep_5"), episodeEvents("ep_5"));
    await rm(store.path("ep_1"));
    using index = await open();
    expect(ids(index.query()).sort()).toEqual(["ep_2", "ep_3", "ep_4", "ep_5"]);
    expect(index.query({ id: "ep_4" })).toMatchObject([{ sealed: true }]);
  });

  describe("is rebuilt from the logs with the same result", () => {
    const damages: [string, () => Promise<void>][] = [
      ["deleted", () => rm(indexPath)],
      ["overwritten with noise", () => writeFile(indexPath, "this is not a database".repeat(1000))],
      ["cut in half", async () => writeFile(indexPath, (await readFile(indexPath)).subarray(0, 6000))],
      ["empty", () => writeFile(indexPath, "")],
      [
        "damaged in a page",
        async () => {
          const bytes = await readFile(indexPath);
          await writeFile(indexPath, bytes.fill(0xa5, 4096 + 8, 4096 + 900));
        },
      ],
      [
        "of another version",
        async () => {
          const db = new DatabaseSync(indexPath);
          db.exec("PRAGMA user_version = 999; DELETE FROM episode;");
          db.close();
        },
      ],
    ];
    it.each(damages)("when it is %s", async (_, damage) => {
      const before = await open();
      const rows = before.query();
      before.close();
      await damage();
      using after = await open();
      expect(after.query()).toEqual(rows);
      expect(rows).toHaveLength(4);
    });

    it("when somebody asks for it", async () => {
      using index = await open();
      const rows = index.query();
      expect(await index.rebuild()).toEqual({
        indexed: ["ep_1", "ep_2", "ep_3", "ep_4"],
        removed: [],
        skipped: [],
      });
      expect(index.query()).toEqual(rows);
    });
  });

  it("leaves damaged logs out, and says which and why", async () => {
    const text = await readFile(store.path("ep_2"), "utf8");
    await writeFile(store.path("ep_2"), text.replace('"critical"', '"low"'));
    await writeFile(store.path("ep_8"), await readFile(store.path("ep_1")));
    using index = await open();
    const { skipped } = await index.rebuild();
    expect(skipped).toMatchObject([
      { id: "ep_2", why: expect.stringContaining("bad-hash") },
      { id: "ep_8", why: "the log is of episode ep_1" },
    ]);
    expect(ids(index.query()).sort()).toEqual(["ep_1", "ep_3", "ep_4"]);
  });

  describe("notices that a log is no longer the one that it read", () => {
    type Change = [string, string, (lines: string[]) => string[], RegExp];
    const changes: Change[] = [
      [
        "one letter was changed",
        "ep_2",
        (lines) => lines.map((line) => line.replace('"critical"', '"criticaI"')),
        /line 4 is broken \(bad-hash\)/,
      ],
      [
        "it is in an earlier format",
        "ep_2",
        (lines) => lines.map((line, i) => (i === 1 ? line.replace('"v":1}', '"v":0}') : line)),
        /line 2: the line is in format version 0/,
      ],
      ["it was emptied", "ep_2", () => [], /it has no lines, and had \d+ when it was read before/],
      ["its seal is gone", "ep_2", (lines) => lines.slice(0, -1), /lines were cut off at the end/],
      ["an open one was cut", "ep_4", (lines) => lines.slice(0, -1), /has 2 lines, and had 3 when/],
    ];
    it.each(changes)("when %s", async (_, id, change, why) => {
      const path = store.path(id);
      const before = (await open()).query();
      const lines = (await readFile(path, "utf8")).trimEnd().split("\n");
      const text = change(lines).map((line) => `${line}\n`);
      await writeFile(path, text.join(""));
      for (const _sitting of ["first", "second"]) {
        using index = await open();
        const unsound = [...index.refreshed.skipped, ...(await index.changed())];
        expect(unsound).toEqual([{ id, why: expect.stringMatching(why) }]);
        expect(index.query()).toEqual(before); // what it knew stays
      }
    });

    it("and of another log in its place, sound as it may be", async () => {
      (await open()).close();
      await rm(store.path("ep_1"));
      await writeLog(store.path("ep_1"), [begin("ep_1", { run: "run_9" }), turn(0)]);
      using index = await open();
      expect(await index.changed()).toEqual([
        { id: "ep_1", why: expect.stringMatching(/lines were cut off|the hash of line/) },
      ]);
    });

    it("and says nothing of logs that have only grown", async () => {
      (await open()).close();
      const { writer } = await store.reopen("ep_4");
      await writer.seal();
      await writer.close();
      using index = await open();
      expect([index.refreshed.skipped, await index.changed()]).toEqual([[], []]);
    });
  });

  it.skipIf(!canMount)("is read where nothing can be written", async () => {
    (await open()).close();
    const sealed = store.path("ep_2");
    await writeFile(sealed, (await readFile(sealed, "utf8")).replace('"critical"', '"criticaI"'));
    expect(spawnSync("mount", ["--bind", folder, folder]).status).toBe(0);
    try {
      expect(spawnSync("mount", ["-o", "remount,bind,ro", folder]).status).toBe(0);
      await expect(open()).rejects.toMatchObject({ code: "index.unusable" });
      using index = await EpisodeIndex.openToRead(indexPath, store);
      // It knows what the index on the disk knows.
      expect(index.refreshed).toEqual({ indexed: ["ep_4"], removed: [], skipped: [] });
      expect(await index.changed()).toEqual([{ id: "ep_2", why: expect.stringContaining("bad-hash") }]);
    } finally {
      spawnSync("umount", [folder]);
    }
  });

  it.skipIf(!canMount)("names a full disk, and is read from one", async () => {
    (await open()).close();
    const disk = join(folder, "disk");
    await mkdir(disk);
    expect(spawnSync("mount", ["-t", "tmpfs", "-o", "size=256k", "none", disk]).status).toBe(0);
    try {
      const path = join(disk, "index.sqlite");
      await copyFile(indexPath, path);
      await writeFile(join(disk, "rest"), Buffer.alloc(1 << 20)).catch(() => undefined);
      await expect(EpisodeIndex.open(path, store)).rejects.toMatchObject({
        code: "index.unusable",
        message: expect.stringContaining("ENOSPC"),
      });
      using index = await EpisodeIndex.openToRead(path, store);
      expect(index.count()).toBe(4);
    } finally {
      spawnSync("umount", [disk]);
    }
  });

  it("is not deleted because another process holds it", async () => {
    (await open()).close();
    const before = await readFile(indexPath);
    const holder = new DatabaseSync(indexPath);
    holder.exec("PRAGMA journal_mode = DELETE; PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE;");
    await expect(open()).rejects.toMatchObject({ code: "index.unusable", next: expect.any(String) });
    holder.exec("COMMIT;");
    holder.close();
    expect((await readFile(indexPath)).length).toBe(before.length);
    using index = await open();
    expect(index.count()).toBe(4);
  });

  it("makes the folder that it is put in, and says when it cannot be put there", async () => {
    (await EpisodeIndex.open(join(folder, "new", "index.db"), store)).close();
    await expect(EpisodeIndex.open(folder, store)).rejects.toMatchObject({ code: "index.unusable" });
  });

  it("prints no warning of its own", async () => {
    const script = join(import.meta.dirname, "children", "open-index.ts");
    const { stdout, stderr } = spawnSync(process.execPath, [script, join(folder, "none")]);
    expect([`${stdout}`, `${stderr}`]).toEqual(["0\n", ""]);
  });
});

describe("the store", () => {
  it("lists its logs and nothing else", async () => {
    await writeFile(join(store.dir, "notes.txt"), "");
    await writeFile(join(store.dir, ".hidden.jsonl"), "");
    expect(await store.ids()).toEqual(["ep_1", "ep_2", "ep_3", "ep_4"]);
  });

  it("creates, reads, verifies and follows by id", async () => {
    await using writer = await store.create("ep_5");
    for (const event of episodeEvents("ep_5")) writer.append(event);
    const head = await writer.seal();
    expect((await store.read("ep_5")).head).toBe(head);
    expect(await store.verify("ep_5")).toMatchObject({ ok: true, head });
    const types: string[] = [];
    for await (const entry of store.tail("ep_5")) types.push(entry.event.type);
    expect(types.at(-1)).toBe("episode.seal");
  });

  it.each(["../x", "a/b", "", ".", "..", "a\0b", "x".repeat(300)])("refuses the id %j", async (id) => {
    const refusal = expect.objectContaining({ code: "episode.bad-id" });
    expect(() => store.path(id)).toThrow(refusal);
    await expect(store.read(id)).rejects.toEqual(refusal);
  });
});
