/**
 * Checks the dependency direction of docs/explanation/house.md: which package may import which, no cycles between files, and
 * no import of another package's inside. Prints every fault and exits 1 if there is one.
 */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";

const ROOT = resolve(import.meta.dirname, "..");

/** Arrows point at what a package may import. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  core: [],
  rock: ["core"],
  guard: ["core"],
  gateway: ["core"],
  flow: ["core"],
  bench: ["core", "rock"],
  data: ["core", "rock", "bench"],
  roll: ["core", "rock", "guard", "gateway", "flow", "bench", "data"],
  cli: ["core", "rock", "guard", "gateway", "flow", "bench", "data", "roll"],
};

function* sources(directory: string): Generator<string> {
  for (const name of readdirSync(directory)) {
    const path = join(directory, name);
    if (statSync(path).isDirectory()) {
      if (name !== "node_modules") yield* sources(path);
    } else if (name.endsWith(".ts") || name.endsWith(".tsx")) yield path;
  }
}

const importPattern =
  /(?:^|\n)\s*(?:import|export)\s[^"';]*?from\s+["']([^"']+)["']|(?:^|\n)\s*import\s+["']([^"']+)["']/g;

function importsOf(file: string): string[] {
  return [...readFileSync(file, "utf8").matchAll(importPattern)].map((match) => (match[1] ?? match[2])!);
}

/** Whether a package offers a part of itself under a name of its own, e.g. `@ale/rock/client`. */
function isPublic(name: string, part: string): boolean {
  const manifest = join(ROOT, "packages", name, "package.json");
  const { exports = {} } = JSON.parse(readFileSync(manifest, "utf8")) as { exports?: Record<string, string> };
  return `.${part}` in exports;
}

const faults: string[] = [];
const graph = new Map<string, string[]>();

for (const name of readdirSync(join(ROOT, "packages"))) {
  const allowed = MAY_IMPORT[name];
  if (allowed === undefined) {
    faults.push(`packages/${name}: not in the table of scripts/check-arrows.ts`);
    continue;
  }
  const home = join(ROOT, "packages", name);
  for (const file of sources(join(home, "src"))) {
    const here = relative(ROOT, file);
    const inside: string[] = [];
    for (const target of importsOf(file)) {
      const packageImport = /^@ale\/([a-z]+)(\/.*)?$/.exec(target);
      if (packageImport) {
        if (packageImport[2] && !isPublic(packageImport[1]!, packageImport[2]))
          faults.push(`${here}: imports the inside of another package (${target})`);
        if (!allowed.includes(packageImport[1]!))
          faults.push(`${here}: ${name} may not import @ale/${packageImport[1]}`);
      } else if (target.startsWith(".")) {
        const resolved = resolve(dirname(file), target);
        if (!resolved.startsWith(`${join(home, "src")}/`))
          faults.push(`${here}: reaches outside its package (${target})`);
        inside.push(resolved);
      }
    }
    graph.set(file, inside);
  }
}

const state = new Map<string, "open" | "done">();
function visit(file: string, trail: readonly string[]): void {
  if (state.get(file) === "done") return;
  if (state.get(file) === "open") {
    faults.push(
      `cycle: ${[...trail.slice(trail.indexOf(file)), file].map((path) => relative(ROOT, path)).join(" → ")}`,
    );
    return;
  }
  state.set(file, "open");
  for (const next of graph.get(file) ?? []) visit(next, [...trail, file]);
  state.set(file, "done");
}
for (const file of graph.keys()) visit(file, []);

for (const fault of faults) console.error(fault);
if (faults.length > 0) process.exit(1);
console.log(`arrows: ${graph.size} files, every import points the right way`);
