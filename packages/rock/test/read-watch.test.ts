import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { ReadWatch } from "../src/files/read-watch.ts";

const files = (...names: string[]) => {
  const directory = mkdtempSync(join(tmpdir(), "ale-watch-"));
  const paths = names.map((name) => join(directory, name));
  for (const path of paths) writeFileSync(path, "content");
  return { paths, [Symbol.dispose]: () => rmSync(directory, { recursive: true }) };
};

function watch(paths: readonly string[]): ReadWatch {
  const reads = new ReadWatch();
  for (const path of paths) {
    const fd = openSync(path, "r+");
    reads.add("box", path, fd);
    closeSync(fd);
  }
  return reads;
}

describe.skipIf(process.platform !== "linux")("the watch for reads", () => {
  test("knows which file was read, and not of writes", () => {
    using made = files("a", "b");
    const [a, b] = made.paths as [string, string];
    const reads = watch(made.paths);
    writeFileSync(b, "new");
    readFileSync(a);
    expect([reads.wasRead("box", a), reads.wasRead("box", b)]).toEqual([true, false]);
    expect(reads.wasRead("other", a)).toBeUndefined();
    reads.close();
  });

  test("does not count its owner's reads", () => {
    using made = files("a");
    const [a] = made.paths as [string];
    const reads = watch(made.paths);
    reads.unseen(() => readFileSync(a));
    expect(reads.wasRead("box", a)).toBe(false);
    reads.close();
  });

  test("says that it does not know where events were lost", () => {
    using made = files("flood", "quiet");
    const [flood, quiet] = made.paths as [string, string];
    const reads = watch(made.paths);
    const queue = Number(readFileSync("/proc/sys/fs/inotify/max_queued_events", "utf8"));
    for (let i = 0; i <= queue; i++) readFileSync(flood);
    expect([reads.wasRead("box", flood), reads.wasRead("box", quiet)]).toEqual([true, undefined]);
    reads.close();
  });
});
