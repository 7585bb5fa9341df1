import { spawnSync } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { temporaryHome } from "./support.ts";

const SCRIPT = resolve(import.meta.dirname, "../../../scripts/npm-fresh.mjs");
type Packages = Readonly<Record<string, object>>;

async function isFresh(wanted: Packages, present: Packages | null): Promise<boolean> {
  const root = await temporaryHome();
  await mkdir(join(root, "node_modules"));
  await writeFile(join(root, "package-lock.json"), JSON.stringify({ packages: wanted }));
  if (present !== null)
    await writeFile(join(root, "node_modules/.package-lock.json"), JSON.stringify({ packages: present }));
  return spawnSync(process.execPath, [SCRIPT, root]).status === 0;
}

const zod = { "node_modules/zod": { version: "4.0.0" } };

describe("node_modules is fresh", () => {
  it("when it holds what the lock file asks for, whatever else it holds", async () => {
    expect(await isFresh({ "": {}, "packages/core": {}, ...zod }, { ...zod, "node_modules/x": {} })).toBe(
      true,
    );
  });
  it("when only other platforms' binaries are left out", async () => {
    const musl = { "node_modules/biome-musl": { version: "1.0.0", optional: true } };
    expect(await isFresh({ ...zod, ...musl }, zod)).toBe(true);
  });
  it("but not after an interrupted installation, which leaves no list", async () => {
    expect(await isFresh(zod, null)).toBe(false);
  });
  it("nor with another version, a missing package, or a workspace that is not linked", async () => {
    expect(await isFresh(zod, { "node_modules/zod": { version: "3.9.0" } })).toBe(false);
    expect(await isFresh(zod, {})).toBe(false);
    expect(await isFresh({ "node_modules/@ale/core": { link: true } }, {})).toBe(false);
  });
});
