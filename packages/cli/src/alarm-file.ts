import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { basename } from "node:path";
import { Transform } from "node:stream";
import { createGunzip } from "node:zlib";
import { AleError, suggest } from "@ale/core";
import { AlarmReader, FieldMap, type Imported, type ImportOptions } from "@ale/guard";
import { usageError } from "./args.ts";

/** Somebody's file of alarms, read as a stream, compressed or not; and the map of its fields. */
export interface AlarmFile {
  readonly file: string;
  /** Of the bytes as they lie there. */
  readonly sha256: string;
  readonly bytes: number;
  readonly read: Imported;
}

const GZIP = [0x1f, 0x8b];
/** By their first bytes: what else logs are packed in. */
const PACKED: readonly (readonly [readonly number[], string])[] = [
  [[0x28, 0xb5, 0x2f, 0xfd], "zstd -d"],
  [[0xfd, 0x37, 0x7a, 0x58], "xz -d"],
  [[0x42, 0x5a, 0x68], "bzip2 -d"],
  [[0x50, 0x4b, 0x03, 0x04], "unzip"],
];

/** Throws `file-not-found`, `import-format` where nothing says what it is, and `usage` for what it is packed in. */
export async function readAlarmFile(
  path: string,
  options: ImportOptions,
  signal: AbortSignal,
): Promise<AlarmFile> {
  await refuseNoFile(path);
  const file = basename(path);
  const reader = new AlarmReader(file, options);
  const hash = createHash("sha256");
  let bytes = 0;
  const isGzip = await beginsAs(path);
  const counted = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk);
      bytes += chunk.length;
      done(null, chunk);
    },
  });
  const source = createReadStream(path, { highWaterMark: 256 << 10, signal });
  source.on("error", (error) => counted.destroy(error));
  const raw = source.pipe(counted);
  const unpacked = isGzip ? raw.pipe(createGunzip()) : raw;
  raw.on("error", (error) => unpacked.destroy(error));
  try {
    for await (const chunk of unpacked) reader.push(chunk as Buffer);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    // What came out before the end is sound.
    if (code !== "Z_BUF_ERROR" && code !== "Z_DATA_ERROR") throw error;
    reader.fault(`the compressed file is damaged or cut off (${message}): what follows is lost`);
    // The hash is of all of it.
    raw.unpipe();
    for await (const _ of raw) signal.throwIfAborted();
  }
  return { file, sha256: hash.digest("hex"), bytes, read: reader.end() };
}

async function refuseNoFile(path: string): Promise<void> {
  const found = await stat(path).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === "ENOENT" || cause.code === "ENOTDIR") return null;
    throw cause;
  });
  if (found !== null && !found.isDirectory()) return;
  const what = found === null ? `there is no file ${path}` : `${path} is a folder`;
  throw new AleError("file-not-found", what, { next: "name the file of alarms" });
}

/** Whether it is gzip. Throws `usage` for other ways of packing. */
async function beginsAs(path: string): Promise<boolean> {
  const begin = { end: 3 };
  const head = Buffer.concat(await createReadStream(path, begin).toArray());
  const is = (magic: readonly number[]): boolean => magic.every((byte, i) => head[i] === byte);
  const packed = PACKED.find(([magic]) => is(magic));
  if (packed !== undefined)
    throw usageError(`${path} is compressed`, `${packed[1]} ${path}, and import what comes out`);
  return is(GZIP);
}

/** Throws `usage` with the key of the map that is wrong, and what was probably meant. */
export async function readFieldMap(path: string): Promise<FieldMap> {
  const example = 'for example {"at": "time", "title": "rule", "toIp": "dst.ip"}';
  await refuseNoFile(path);
  const text = await readFile(path, "utf8");
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw usageError(`--map: ${path} is not JSON: ${(error as Error).message}`, example);
  }
  const parsed = FieldMap.safeParse(value);
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map(mapFault);
  throw usageError(
    `--map: ${path}: ${faults.map(({ what }) => what).join("; ")}`,
    faults[0]?.next ?? example,
  );
}

type Issue = NonNullable<ReturnType<typeof FieldMap.safeParse>["error"]>["issues"][number];

function mapFault(issue: Issue): { readonly what: string; readonly next: string } {
  const known = Object.keys(FieldMap.shape);
  const key = issue.path.join(".");
  if (issue.code === "unrecognized_keys") {
    const near = issue.keys.map((name) => suggest(name, known));
    const meant = near.find((one) => one !== undefined);
    return {
      what: `there is no ${issue.keys.map((name) => `"${name}"`).join(" and no ")} in a map`,
      next: meant === undefined ? `there are ${known.join(", ")}` : `did you mean "${meant}"?`,
    };
  }
  const next = `say where a record has it: {"at": "time", "title": "rule.name"}`;
  if (key === "") return { what: "it is no object", next };
  if (issue.path[0] === "severities")
    return {
      what: `"${key}" must be low, medium, high or critical`,
      next: '"severities" gives our word for each of theirs: {"5": "critical"}',
    };
  const isMissing = issue.code === "invalid_type" && /received undefined/.test(issue.message);
  return { what: isMissing ? `"${key}" is missing` : `"${key}" must be a dotted path, as a text`, next };
}
