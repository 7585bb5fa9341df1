/**
 * Exits 0 when node_modules holds exactly what package-lock.json asks for, 1 when `npm ci` is due. npm writes
 * node_modules/.package-lock.json as the last act of an installation, so an interrupted one never looks finished.
 * Plain JavaScript without dependencies: it runs before anything is installed, on any Node from 20.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

const root = process.argv[2] ?? ".";
const read = (path) => JSON.parse(readFileSync(join(root, path), "utf8")).packages;

let wanted;
let present;
try {
  wanted = read("package-lock.json");
  present = read("node_modules/.package-lock.json");
} catch (error) {
  console.log(error.message);
  process.exit(1);
}

const stale = Object.entries(wanted).filter(([path, entry]) => {
  if (!path.startsWith("node_modules/")) return false;
  if (entry.link) return !existsSync(join(root, path));
  const found = present[path];
  // Optional packages are other platforms' binaries; npm leaves them out where they do not fit.
  if (found === undefined) return !(entry.optional || entry.peer);
  return found.version !== entry.version;
});
for (const [path] of stale) console.log(`stale: ${path}`);
process.exit(stale.length === 0 ? 0 : 1);
