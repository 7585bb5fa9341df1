import { AleError, type Result, suggest } from "@ale/core";
import { AGENT } from "../image/bootstrap.ts";
import type { FileError } from "../port/files.ts";

/**
 * Who a name means inside a sandbox, as its own /etc/passwd and /etc/group say. Both are read from outside and may hold anything: the
 * sandbox may have written them. What is malformed is passed over; an entry decides ids and directories inside that sandbox and
 * nothing else.
 */

export interface SandboxUser {
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups, without `gid`. None where a group was asked for. */
  readonly groups: readonly number[];
  /** The number where it has no entry. */
  readonly name: string;
  /** Absolute; `/` where it has no entry. It may not exist. */
  readonly home: string;
  /** Absolute; `/bin/sh` where it has no entry. It may not exist. */
  readonly shell: string;
}

/** The part of `Tree` that is needed here. */
interface Reader {
  read(path: string, maxBytes: number): Result<Uint8Array, FileError>;
}

/** Longer databases are not read: then only numbers, `root` and `agent` are known. */
const MAX_BYTES = 2 ** 20;
const MAX_GROUPS = 256;
const MAX_PATH = 4_096;
/** 2³² − 1 means "unchanged" to the kernel. */
const MAX_ID = 2 ** 32 - 2;

interface Account {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
  readonly shell: string;
}

interface Group {
  readonly name: string;
  readonly gid: number;
  readonly members: readonly string[];
}

/** Known to every sandbox, whatever its image says about itself. Its own entries come first. */
const BUILT_IN: readonly Account[] = [
  { name: "root", uid: 0, gid: 0, home: "/root", shell: "/bin/sh" },
  { ...AGENT, shell: "/bin/sh" },
];
const BUILT_IN_GROUPS: readonly Group[] = [
  { name: "root", gid: 0, members: [] },
  { name: AGENT.name, gid: AGENT.gid, members: [] },
];

/**
 * `user`: name, uid, or either with `:` and a group's name or gid. Numbers need no entry; a uid without one has gid 0, as with
 * other container tools. Throws an AleError `user-unknown`.
 */
export function resolveUser(tree: Reader, user: string): SandboxUser {
  const [who = "", group, ...rest] = user.split(":");
  if (who === "" || group === "" || rest.length > 0) throw malformed(user);
  const accounts = [...entries(tree, "/etc/passwd", account), ...BUILT_IN];
  const uid = idOf(who);
  const found = accounts.find((entry) => (uid === undefined ? entry.name === who : entry.uid === uid));
  if (found === undefined && uid === undefined)
    throw unknown(
      "user",
      who,
      accounts.map((entry) => entry.name),
    );
  const groups = [...entries(tree, "/etc/group", groupEntry), ...BUILT_IN_GROUPS];
  const gid = group === undefined ? (found?.gid ?? 0) : groupId(group, groups);
  return {
    uid: found?.uid ?? uid ?? 0,
    gid,
    groups: group === undefined && found !== undefined ? supplementary(found, groups) : [],
    name: found?.name ?? who,
    home: found?.home ?? "/",
    shell: found?.shell ?? "/bin/sh",
  };
}

function groupId(group: string, groups: readonly Group[]): number {
  const gid = idOf(group) ?? groups.find((entry) => entry.name === group)?.gid;
  if (gid !== undefined) return gid;
  throw unknown(
    "group",
    group,
    groups.map((entry) => entry.name),
  );
}

function supplementary(user: Account, groups: readonly Group[]): number[] {
  const ids = groups.filter((entry) => entry.members.includes(user.name)).map((entry) => entry.gid);
  return [...new Set(ids)].filter((gid) => gid !== user.gid).slice(0, MAX_GROUPS);
}

function entries<T>(tree: Reader, path: string, parse: (fields: readonly string[]) => T | undefined): T[] {
  const read = tree.read(path, MAX_BYTES);
  if (!read.ok) return [];
  const text = Buffer.from(read.value).toString("utf8");
  return text.split("\n").flatMap((line) => parse(line.split(":")) ?? []);
}

/** name:password:uid:gid:comment:home:shell */
function account(fields: readonly string[]): Account | undefined {
  const [name, , uid, gid, , home, shell] = fields;
  const ids = [idOf(uid ?? ""), idOf(gid ?? "")] as const;
  if (!isName(name) || ids[0] === undefined || ids[1] === undefined) return undefined;
  return {
    name,
    uid: ids[0],
    gid: ids[1],
    home: absolute(home) ?? "/",
    shell: absolute(shell) ?? "/bin/sh",
  };
}

/** name:password:gid:member,member */
function groupEntry(fields: readonly string[]): Group | undefined {
  const [name, , gid, members] = fields;
  const id = idOf(gid ?? "");
  return isName(name) && id !== undefined
    ? { name, gid: id, members: (members ?? "").split(",") }
    : undefined;
}

const isName = (name: string | undefined): name is string =>
  name !== undefined && /^[^\s\0#+-][^\s\0]*$/.test(name);

function absolute(path: string | undefined): string | undefined {
  return path?.startsWith("/") && path.length <= MAX_PATH && !path.includes("\0") ? path : undefined;
}

function idOf(text: string): number | undefined {
  if (!/^\d{1,10}$/.test(text)) return undefined;
  const id = Number(text);
  return id <= MAX_ID ? id : undefined;
}

function malformed(user: string): AleError {
  return new AleError("user-unknown", `${JSON.stringify(user)} names no user`, {
    next: 'write it as "name", "uid", "name:group" or "uid:gid"',
  });
}

function unknown(what: "user" | "group", name: string, known: readonly string[]): AleError {
  const near = suggest(name, known);
  return new AleError("user-unknown", `the sandbox has no ${what} ${JSON.stringify(name)}`, {
    next:
      near === undefined
        ? `use a ${what} of the image's /etc/${what === "user" ? "passwd" : "group"}, or a number`
        : `did you mean ${near}?`,
  });
}
