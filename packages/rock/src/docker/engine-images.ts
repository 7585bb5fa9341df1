import { AleError } from "@ale/core";
import { z } from "zod";
import type { ImageConfig, LocalImage } from "../image/local-image.ts";
import type { Engine } from "./engine.ts";
import { mergeLayers, tarOf } from "./merged-layers.ts";

/** Images as the engine has them: found by name, pulled by it, or handed to it from the local store. */

export interface EngineImage {
  /** As it was asked for. */
  readonly name: string;
  /** The engine's own id, "sha256:…": what containers are made of. */
  readonly id: string;
  /** What the name stood for: the registry's digest where there is one, else the local image's or the id. */
  readonly digest: string;
  readonly arch: string;
  readonly config: ImageConfig;
  readonly labels: Readonly<Record<string, string>>;
}

export interface PullProgress {
  /** The engine's words, e.g. "Downloading". */
  readonly status: string;
  readonly layer?: string;
  readonly currentBytes?: number;
  readonly totalBytes?: number;
}

export interface PullOptions {
  readonly onProgress?: (progress: PullProgress) => void;
  readonly auth?: { readonly username: string; readonly password: string };
}

const Strings = z
  .array(z.string())
  .nullish()
  .transform((list) => list ?? []);
const Inspected = z.object({
  Id: z.string(),
  Architecture: z.string().default(""),
  RepoDigests: Strings,
  Config: z
    .object({
      Env: Strings,
      WorkingDir: z.string().default(""),
      User: z.string().default(""),
      Entrypoint: Strings,
      Cmd: Strings,
      ExposedPorts: z.record(z.string(), z.unknown()).nullish(),
      Labels: z.record(z.string(), z.string()).nullish(),
    })
    .nullish(),
});

const Config = z.object({
  env: z.record(z.string(), z.string()),
  workdir: z.string(),
  user: z.string(),
  entrypoint: z.array(z.string()),
  command: z.array(z.string()),
  exposedPorts: z.array(z.string()),
});

/** A configuration that was written down, or undefined. */
export function configOf(value: unknown): ImageConfig | undefined {
  const parsed = Config.safeParse(value);
  return parsed.success ? parsed.data : undefined;
}

const PullLine = z.object({
  status: z.string().default(""),
  id: z.string().optional(),
  progressDetail: z.object({ current: z.number().optional(), total: z.number().optional() }).nullish(),
  error: z.string().optional(),
});

/** Throws an AleError where a line of an answer tells of a failure. */
function note(name: string, value: unknown, onProgress: PullOptions["onProgress"]): void {
  const line = PullLine.safeParse(value);
  if (!line.success) return;
  const { status, id, progressDetail, error } = line.data;
  if (error !== undefined) throw pullFailed(name, error);
  onProgress?.({
    status,
    ...(id === undefined ? {} : { layer: id }),
    ...(progressDetail?.current === undefined ? {} : { currentBytes: progressDetail.current }),
    ...(progressDetail?.total === undefined ? {} : { totalBytes: progressDetail.total }),
  });
}

/** What engines answer to a pull that fails. */
const REFUSALS: readonly string[] = [
  "engine-bad-request",
  "engine-forbidden",
  "engine-not-found",
  "engine-failed",
];

/** Says of an imported image which local one it is. */
const IMPORTED = "ale.rock.imported";

export class EngineImages {
  readonly #engine: Engine;
  readonly #importing = new Map<string, Promise<EngineImage>>();

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /** Undefined where the engine does not have it. */
  async find(name: string, signal?: AbortSignal): Promise<EngineImage | undefined> {
    const path = `/images/${encodeReference(name)}/json`;
    const { status, body } = await this.#engine.request("GET", path, { accept: [404] }, signal);
    if (status === 404) {
      body.resume();
      return undefined;
    }
    return asEngineImage(name, Inspected.parse(JSON.parse(await readText(body))));
  }

  /** Pulled by the engine, from where its own configuration says. Throws an AleError with the registry's words. */
  async pull(name: string, options: PullOptions = {}, signal?: AbortSignal): Promise<EngineImage> {
    const { repository, tag } = splitReference(name);
    const headers: Record<string, string> =
      options.auth === undefined ? {} : { "x-registry-auth": encodeAuth(options.auth) };
    const query = { fromImage: repository, tag };
    try {
      for await (const value of this.#engine.values("POST", "/images/create", { query, headers }, signal))
        note(name, value, options.onProgress);
    } catch (reason) {
      // Podman's refusal, where Docker begins an answer and ends it with the error.
      const refused = reason instanceof AleError && REFUSALS.includes(reason.code);
      throw refused ? pullFailed(name, reason.message) : reason;
    }
    const found = await this.find(name, signal);
    if (found === undefined) throw pullFailed(name, "the engine says nothing of why");
    return found;
  }

  /** Hands a local image to the engine, once. Its layers are merged into one. */
  async import(image: LocalImage, signal?: AbortSignal): Promise<EngineImage> {
    const reference = importedReference(image);
    let importing = this.#importing.get(reference);
    if (importing === undefined) {
      importing = this.#import(image, reference, signal).finally(() => this.#importing.delete(reference));
      this.#importing.set(reference, importing);
    }
    return importing;
  }

  async #import(image: LocalImage, reference: string, signal?: AbortSignal): Promise<EngineImage> {
    const known = await this.find(reference, signal);
    if (known === undefined) {
      using merged = mergeLayers(image.layers);
      const query = { fromSrc: "-", repo: reference, changes: changesOf(image) };
      const body = { query, tar: tarOf(merged.path) };
      for await (const value of this.#engine.values("POST", "/images/create", body, signal))
        note(image.name, value, undefined);
    }
    const found = known ?? (await this.find(reference, signal));
    if (found === undefined) throw pullFailed(image.name, "the engine does not find what was imported");
    return { ...found, name: image.name, digest: image.digest };
  }
}

/** Under `localhost`, where no engine looks for a registry. */
function importedReference(image: LocalImage): string {
  const clean = (text: string): string =>
    text
      .toLowerCase()
      .replace(/[^a-z0-9_.-]+/g, "-")
      .replace(/^[-.]+/, "");
  return `localhost/ale-import/${clean(image.name)}:${clean(image.digest).slice(0, 120)}`;
}

function changesOf(image: LocalImage): string[] {
  const { env, workdir, user } = image.config;
  return [
    `LABEL ${IMPORTED}=${JSON.stringify(`${image.name}@${image.digest}`)}`,
    ...(user === "" ? [] : [`USER ${user}`]),
    ...(workdir === "" ? [] : [`WORKDIR ${workdir}`]),
    ...Object.entries(env).map(([name, value]) => `ENV ${name}=${JSON.stringify(value)}`),
  ];
}

function asEngineImage(name: string, found: z.infer<typeof Inspected>): EngineImage {
  const { Config: config } = found;
  const imported = config?.Labels?.[IMPORTED];
  const id = found.Id.includes(":") ? found.Id : `sha256:${found.Id}`;
  return {
    name,
    id,
    digest: imported?.split("@").at(-1) ?? found.RepoDigests[0]?.split("@").at(-1) ?? id,
    arch: found.Architecture,
    config: {
      env: Object.fromEntries((config?.Env ?? []).map((pair) => splitOnce(pair, "="))),
      workdir: config?.WorkingDir || "/",
      user: config?.User ?? "",
      entrypoint: config?.Entrypoint ?? [],
      command: config?.Cmd ?? [],
      exposedPorts: Object.keys(config?.ExposedPorts ?? {}),
    },
    labels: config?.Labels ?? {},
  };
}

function splitOnce(text: string, at: string): [string, string] {
  const index = text.indexOf(at);
  return index < 0 ? [text, ""] : [text.slice(0, index), text.slice(index + 1)];
}

/** "python:3.11" → python and 3.11; a digest counts as a tag; without one it is "latest", never all of them. */
export function splitReference(name: string): { repository: string; tag: string } {
  const digest = name.indexOf("@");
  if (digest >= 0) return { repository: name.slice(0, digest), tag: name.slice(digest + 1) };
  const colon = name.lastIndexOf(":");
  return colon > name.lastIndexOf("/")
    ? { repository: name.slice(0, colon), tag: name.slice(colon + 1) }
    : { repository: name, tag: "latest" };
}

/** Slashes separate path segments of the API too; nothing else of a name may. */
function encodeReference(name: string): string {
  if (!/^[A-Za-z0-9][A-Za-z0-9._/:@-]*$/.test(name) || name.split("/").includes(".."))
    throw new AleError("image-invalid", `${JSON.stringify(name)} is no name of an image`, {
      next: "write it like python:3.11-slim or registry.example.com/team/image@sha256:…",
    });
  return name;
}

/** Engines want base64 for URLs with its padding, which Node leaves out. */
function encodeAuth(auth: { username: string; password: string }): string {
  const text = Buffer.from(JSON.stringify(auth)).toString("base64url");
  return text.padEnd(Math.ceil(text.length / 4) * 4, "=");
}

const pullFailed = (name: string, why: string): AleError =>
  new AleError("image-pull-failed", `the engine could not get ${name}: ${why}`, {
    next: "check the name and the engine's access to its registry",
  });

async function readText(body: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return Buffer.concat(chunks).toString("utf8");
}
