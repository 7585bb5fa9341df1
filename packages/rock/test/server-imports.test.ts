import { readFileSync } from "node:fs";
import { dirname, relative, resolve } from "node:path";
import { expect, test } from "vitest";

const SOURCES = resolve(import.meta.dirname, "../src");

/** Every file and package that is loaded with a file; what is imported as a type is not. */
function loadedWith(file: string, seen = new Set<string>()): Set<string> {
  if (seen.has(file)) return seen;
  seen.add(file);
  const imports = readFileSync(file, "utf8").matchAll(
    /^(?:import|export)\s+(?!type\b)([^;]*?)from\s+"([^"]+)"/gms,
  );
  for (const [, names, target] of imports) {
    const onlyTypes = /^\{\s*(type [\w\s]+,?\s*)+\}\s*$/.test(names!);
    if (onlyTypes) continue;
    if (target!.startsWith(".")) loadedWith(resolve(dirname(file), target!), seen);
    else seen.add(target!);
  }
  return seen;
}

test("the client loads nothing that makes or serves sandboxes", () => {
  const loaded = [...loadedWith(resolve(SOURCES, "client/index.ts"))];
  const packages = loaded.filter((name) => !name.startsWith("/") && !name.startsWith("node:")).sort();
  expect(packages).toEqual([
    "@ale/core/create-whole",
    "@ale/core/network-policy",
    "@ale/core/result",
    "ws",
    "zod",
  ]);
  const files = loaded.filter((name) => name.startsWith("/")).map((name) => relative(SOURCES, name));
  expect(files.filter((name) => !/^(client|wire)\//.test(name)).sort()).toEqual([
    "egress/account.ts",
    "egress/policy-text.ts",
    "host/home.ts",
    "host/owner.ts",
    "server/lease.ts",
  ]);
});
