import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { EXIT } from "../src/exit-codes.ts";
import { makeFolder, outRefusal, writeWhole } from "../src/out-files.ts";
import { ale, recordEpisode, temporaryHome } from "./support.ts";

const MAIN = resolve(import.meta.dirname, "../src/main.ts");

/** In a process of its own: what spins for ever is ended, and has no exit code. */
function spawned(...argv: string[]): { status: number | null; stderr: string } {
  const { status, stderr } = spawnSync(process.execPath, [MAIN, ...argv], {
    encoding: "utf8",
    timeout: 60_000,
    killSignal: "SIGKILL",
  });
  return { status, stderr };
}

describe.skipIf(process.platform !== "linux")("a place in which nothing can be made", () => {
  it.each([
    [
      "guard export --out",
      ["guard", "export", "last", "--out", "/proc/x"],
      /^error: \/proc\/x cannot be made/m,
    ],
    ["--home", ["--home", "/proc/x/y", "rock", "token", "create", "a"], /nothing can be made in \/proc$/m],
  ])("is refused by %s at once", async (_name, argv, said) => {
    const home = await temporaryHome();
    await recordEpisode(home, "r", { id: "ep_01k", violation: true });
    const { status, stderr } = spawned("--home", home, ...argv);
    expect(stderr).toMatch(said);
    expect(stderr).toContain("next:  choose a");
    expect(status).toBe(EXIT.usage);
  });
});

describe("a file that is written", () => {
  it("is whole, in folders that were not there, and leaves no part of itself beside it", async () => {
    const folder = join(await temporaryHome(), "a/b");
    makeFolder(folder);
    writeWhole(join(folder, "f"), "one");
    writeWhole(join(folder, "f"), "two");
    expect(readFileSync(join(folder, "f"), "utf8")).toBe("two");
    expect(readdirSync(folder)).toEqual(["f"]);
  });

  it.each([
    [
      "below a file",
      (home: string) => makeFolder(join(home, "file/x/y")),
      "out-invalid",
      "/file cannot be made: there is a file of that name",
    ],
    [
      "in place of a file",
      (home: string) => makeFolder(join(home, "file")),
      "out-invalid",
      "a file of that name",
    ],
    [
      "of a name too long",
      (home: string) => makeFolder(join(home, "n".repeat(300))),
      "out-invalid",
      "too long",
    ],
    ["in place of a folder", (home: string) => writeWhole(home, "x"), "out-invalid", "a folder of that name"],
    [
      "in no folder",
      (home: string) => writeWhole(join(home, "no/x"), "x"),
      "out-invalid",
      "nothing can be made",
    ],
    ["on a full disk", () => writeWhole("/dev/full", "x"), "out-refused", "no space left"],
  ])("%s is refused with the reason, and nothing is left of it", async (_name, write, code, said) => {
    const home = await temporaryHome();
    writeFileSync(join(home, "file"), "");
    expect(() => write(home)).toThrow(
      expect.objectContaining({ code, message: expect.stringContaining(said), next: expect.any(String) }),
    );
    expect(readdirSync(home)).toEqual(["file"]);
    expect(existsSync("/dev/full")).toBe(true);
  });

  it.each(["EACCES", "EROFS", "EDQUOT"])(
    "is told what to do about %s; another file's failure stays its own",
    (errno) => {
      const error = Object.assign(new Error(errno), { code: errno, path: "/a/b/.c.part" });
      expect(outRefusal("/a/b/c", "cannot be written", error)).toMatchObject({ code: "out-refused" });
      expect(outRefusal("/z/c", "cannot be written", error)).toBe(error);
    },
  );
});

describe("a home", () => {
  it("that is a file, or below one, is a wrong command line", async () => {
    const file = join(await temporaryHome(), "file");
    writeFileSync(file, "");
    for (const home of [file, join(file, "x")])
      expect(await ale(home, "rock", "token", "create", "a")).toMatchObject({
        exitCode: EXIT.usage,
        stderr: expect.stringContaining("is a file"),
      });
  });
});
