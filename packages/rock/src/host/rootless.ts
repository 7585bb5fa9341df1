import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { userInfo } from "node:os";
import { findTool } from "./tools.ts";

/**
 * Sandboxes for an ordinary user. A process cannot enter a user namespace once it has threads, so the program starts itself again through
 * unshare(1), as root of a namespace in which it may mount, with the numbers that /etc/subuid gives the user for everybody else.
 */

/** Set in a process that was started so; it does not start itself again. */
const MARK = "ALE_ROOTLESS";

/** Whether root here is an ordinary user of the host. */
export function isRootless(): boolean {
  return (
    process.getuid?.() === 0 &&
    !parseIdMap(readIdMap()).some(({ outside, size }) => outside === 0 && size === WHOLE)
  );
}

const WHOLE = 4_294_967_295;
const readIdMap = (): string => {
  try {
    return readFileSync("/proc/self/uid_map", "utf8");
  } catch {
    return `0 0 ${WHOLE}`;
  }
};

export interface MappedIds {
  readonly inside: number;
  readonly outside: number;
  readonly size: number;
}

export function parseIdMap(text: string): MappedIds[] {
  return text.split("\n").flatMap((line) => {
    const [inside, outside, size] = line.trim().split(/\s+/).map(Number);
    return size === undefined ? [] : [{ inside: inside!, outside: outside!, size }];
  });
}

/** A map that gives a namespace below this one everybody who is here, as himself. A range of it may not span two of ours. */
export function everybodyHere() {
  const [uids, gids] = ["uid", "gid"].map((kind) => {
    const ranges = parseIdMap(readFileSync(`/proc/self/${kind}_map`, "utf8"));
    return ranges.map(({ inside, size }) => ({ containerID: inside, hostID: inside, size }));
  });
  return { uids: uids!, gids: gids! };
}

/** Why an ordinary user can have no sandboxes on this host; undefined where he can. */
export function rootlessObstacle(user = userInfo().username, subuid = readSubuid()): string | undefined {
  const missing = ["newuidmap", "newgidmap"].filter((tool) => findTool(tool) === undefined);
  if (missing.length > 0) return `${missing.join(" and ")} are not installed (apt install uidmap)`;
  const size = subuid
    .split("\n")
    .map((line) => line.split(":"))
    .find(([name]) => name === user)?.[2];
  if (Number(size ?? 0) < 65_536)
    return `${user} has no 65536 subordinate users (as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ${user})`;
  const unshare = findTool("unshare");
  const help = unshare === undefined ? "" : spawnSync(unshare, ["--help"], { encoding: "utf8" }).stdout;
  return help.includes("--map-auto")
    ? undefined
    : "unshare(1) has no --map-auto (util-linux 2.38 or later has)";
}

function readSubuid(): string {
  try {
    return readFileSync("/etc/subuid", "utf8");
  } catch {
    return "";
  }
}

/**
 * Starts this program again, with the same arguments, where an ordinary user may have sandboxes. Does not return then. Returns where there
 * is nothing to do (root, not Linux, done already) or nothing that can be done (see `rootlessObstacle`).
 */
export function enterRootless(
  argv: readonly string[] = [...process.execArgv, ...process.argv.slice(1)],
): void {
  if (process.platform !== "linux" || process.getuid?.() === 0 || process.env[MARK] !== undefined) return;
  const unshare = findTool("unshare");
  if (unshare === undefined || rootlessObstacle() !== undefined || process.execve === undefined) return;
  const options = ["--user", "--map-root-user", "--map-auto", "--mount", "--propagation", "slave"];
  process.execve(unshare, [unshare, ...options, "--", process.execPath, ...argv], {
    ...process.env,
    [MARK]: "1",
  });
}
