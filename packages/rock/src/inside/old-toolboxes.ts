import { existsSync, readdirSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import { ensureToolbox } from "./toolbox.ts";

/**
 * Toolboxes of a home that were made of programs which the host no longer has: each upgrade of perl or bash makes a new one. Removes them, and
 * what a crash left half made. Only while nobody else has sandboxes in the home: theirs may stand on any of them. Returns their names.
 */
export function removeOldToolboxes(home: string): string[] {
  const parent = join(home, "inside");
  if (!existsSync(parent)) return [];
  const current = basename(ensureToolbox(home).directory);
  const old = readdirSync(parent).filter(
    (name) => name !== current && (/^[0-9a-f]{16}$/.test(name) || name.startsWith(".building-")),
  );
  for (const name of old) rmSync(join(parent, name), { recursive: true, force: true });
  return old;
}
