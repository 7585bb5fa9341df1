import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { removeTree } from "../src/host/mounts.ts";
import { findTool } from "../src/host/tools.ts";
import { hostPlatform } from "../src/image/manifest.ts";
import { setName } from "../src/image/names.ts";
import { openStore } from "../src/image/store.ts";
import { keepImage } from "../src/image/stored-image.ts";
import { END_OF_TAR, encodeHeader, padding, type TarHeader } from "../src/image/tar-write.ts";
import { makeLayer } from "../src/image/unpack.ts";
import { defaultHome, ensureBaseImage } from "../src/index.ts";

export interface Directory extends Disposable {
  readonly path: string;
}

export function temporary(): Directory {
  const path = mkdtempSync(join(tmpdir(), "ale-image-"));
  return { path, [Symbol.dispose]: () => removeTree(path) };
}

/** A home with a store of its own that begins with the base image alone. */
export async function homeWithBase(): Promise<Directory> {
  await ensureBaseImage(defaultHome());
  const home = temporary();
  mkdirSync(join(home.path, "images"));
  symlinkSync(join(defaultHome(), "images", "ale-base"), join(home.path, "images", "ale-base"));
  return home;
}

export type Entry = Partial<TarHeader> & { readonly path: string; readonly content?: string | Buffer };

/** A tar with exactly these entries, however unreasonable. */
export function tarOf(...entries: readonly Entry[]): Buffer {
  const parts = entries.flatMap(({ content = "", ...entry }) => {
    const body = Buffer.from(content as Buffer);
    const base = { type: "file", mode: 0o644, uid: 0, gid: 0, mtime: 1_700_000_000 } as const;
    return [encodeHeader({ ...base, size: body.length, ...entry }), body, padding(body.length)];
  });
  return Buffer.concat([...parts, END_OF_TAR]);
}

export async function* bytesOf(buffer: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < buffer.length; at += 1000) yield buffer.subarray(at, at + 1000);
}

/** An image of these layers, undermost first, in the store of a home. */
export async function makeImage(home: string, name: string, layers: readonly Buffer[]): Promise<string> {
  const store = openStore(home);
  const records = [];
  for (const layer of layers) records.push(await makeLayer(store, bytesOf(layer)));
  const [os, architecture] = hostPlatform().split("/");
  const config = {
    os: os!,
    architecture: architecture!,
    created: null,
    config: {
      Env: ["PATH=/bin", "GREETING=hello"],
      WorkingDir: "/srv",
      User: "",
      Entrypoint: null,
      Cmd: ["/bin/true"],
      ExposedPorts: { "8080/tcp": {} },
      Labels: null,
      Volumes: null,
      Shell: null,
    },
    rootfs: { type: "layers" as const, diff_ids: records.map((one) => one.diffId as `sha256:${string}`) },
    history: null,
  };
  const image = keepImage(
    store,
    config,
    records.map((one) => one.tarBytes),
  );
  setName(store, name, { type: "image", manifest: image.digest });
  return image.digest;
}

export const registryTool = findTool("docker-registry");

export interface RunningRegistry extends AsyncDisposable {
  /** "127.0.0.1:PORT" */
  readonly host: string;
}

/** Of "tester" with the password "secret", as htpasswd writes it. */
const HTPASSWD = "tester:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";
export const CREDENTIALS = { username: "tester", password: "secret" } as const;

/** A real registry on a free port of the loopback, with a directory of its own. */
export async function startRegistry(options: { readonly auth?: boolean } = {}): Promise<RunningRegistry> {
  const directory = temporary();
  const port = await freePort();
  const auth = options.auth
    ? `auth:\n  htpasswd:\n    realm: test\n    path: ${join(directory.path, "htpasswd")}\n`
    : "";
  writeFileSync(join(directory.path, "htpasswd"), HTPASSWD);
  const config = join(directory.path, "config.yml");
  writeFileSync(
    config,
    `version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage:\n  filesystem:\n    rootdirectory: ${directory.path}/data\nhttp:\n  addr: 127.0.0.1:${port}\n${auth}`,
  );
  const child = spawn(registryTool!, ["serve", config], { stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  child.stderr.on("data", (chunk: Buffer) => {
    said += chunk.toString("utf8");
  });
  const host = `127.0.0.1:${port}`;
  for (let round = 0; round < 200; round++) {
    if (child.exitCode !== null) throw new Error(`docker-registry ended: ${said}`);
    const answer = await fetch(`http://${host}/v2/`).catch(() => undefined);
    if (answer !== undefined) return { host, [Symbol.asyncDispose]: () => stop(child, directory) };
    await sleep(25);
  }
  throw new Error("docker-registry does not answer");
}

async function stop(child: ChildProcess, directory: Directory): Promise<void> {
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  await ended;
  directory[Symbol.dispose]();
}

export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}
