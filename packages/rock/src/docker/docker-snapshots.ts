import { createHash } from "node:crypto";
import { AleError, Limits, NetworkPolicy, policyAfter } from "@ale/core";
import { z } from "zod";
import { freshSandboxId } from "../oci/sandbox-id.ts";
import type { ShellState } from "../oci/shell-state.ts";
import type { SandboxSpec } from "../port/sandbox.ts";
import type { DiffEntry, ForkOptions, Snapshot, SnapshotOptions, SnapshotResult } from "../port/snapshot.ts";
import type { DockerContainer } from "./docker-container.ts";
import type { Beginning } from "./docker-sandbox.ts";
import type { Engine } from "./engine.ts";
import { configOf, type EngineImage, type EngineImages } from "./engine-images.ts";
import { statsOf } from "./engine-stats.ts";
import { changesBetween, treeOf } from "./image-diff.ts";
import { LABEL } from "./labels.ts";

/**
 * Snapshots as images that the engine commits. They cost time and disk in proportion to what the sandbox wrote; the sandbox is paused
 * meanwhile and its processes go on afterwards. What is known of a snapshot lies in its image's labels, so that it outlives its maker.
 */

const REPOSITORY = "localhost/ale-snapshot";
/** Where the layers of a removed snapshot wait until the last sandbox that stands on them is gone. */
const DROPPED = "localhost/ale-dropped";

const StoredRecord = z.object({
  id: z.string(),
  image: z.string(),
  /** The engine's id of the image that the first sandbox of the line was made of. */
  imageId: z.string(),
  parent: z.string().nullable(),
  sandbox: z.string(),
  createdAtMs: z.number(),
  labels: z.record(z.string(), z.string()),
  bytes: z.number(),
  inodes: z.number(),
  depth: z.number(),
  spec: z.object({
    workdir: z.string().optional(),
    user: z.string().optional(),
    env: z.record(z.string(), z.string()).optional(),
    idleMs: z.number().optional(),
    limits: Limits,
    network: NetworkPolicy,
  }),
  shells: z.array(
    z.object({ id: z.string(), user: z.string().optional(), cwd: z.string(), script: z.string() }),
  ),
});
type SnapshotRecord = z.infer<typeof StoredRecord>;

const Listed = z.array(
  z.object({
    Id: z.string(),
    RepoTags: z
      .array(z.string())
      .nullish()
      .transform((tags) => tags ?? []),
    Labels: z
      .record(z.string(), z.string())
      .nullish()
      .transform((labels) => labels ?? {}),
  }),
);
const Committed = z.object({ Id: z.string() });
const Changes = z
  .array(z.unknown())
  .nullish()
  .transform((list) => list ?? []);

export class DockerSnapshots {
  readonly #engine: Engine;
  readonly #images: EngineImages;
  /** Snapshots of other homes are others' business. */
  readonly #space: string;

  constructor(engine: Engine, images: EngineImages, home: string) {
    this.#engine = engine;
    this.#images = images;
    this.#space = createHash("sha256").update(home).digest("hex").slice(0, 16);
  }

  async list(): Promise<readonly Snapshot[]> {
    const snapshots = (await this.#all()).flatMap(({ RepoTags, Labels }) => {
      const record = recordOf(Labels[LABEL.snapshot]);
      // Children carry their parent's labels where theirs do not say otherwise, and dropped ones have lost their name.
      return record !== undefined && RepoTags.some((tag) => tag === referenceOf(record.id))
        ? [asSnapshot(record)]
        : [];
    });
    return snapshots.sort((a, b) => a.createdAtMs - b.createdAtMs);
  }

  async #all(): Promise<z.infer<typeof Listed>> {
    // One label only: Podman finds nothing that has two.
    const query = { filters: JSON.stringify({ label: [`${LABEL.kind}=snapshot`] }) };
    const images = await this.#engine.json("GET", "/images/json", Listed, { query });
    return images.filter((image) => image.Labels[LABEL.space] === this.#space);
  }

  async get(id: string): Promise<Snapshot | undefined> {
    const found = await this.#find(id);
    return found === undefined ? undefined : asSnapshot(found.record);
  }

  async #find(id: string): Promise<{ image: EngineImage; record: SnapshotRecord } | undefined> {
    if (!/^[a-z0-9-]{1,63}$/.test(id)) return undefined;
    const image = await this.#images.find(referenceOf(id));
    const record = recordOf(image?.labels[LABEL.snapshot]);
    return image === undefined || record === undefined || image.labels[LABEL.space] !== this.#space
      ? undefined
      : { image, record };
  }

  /** Throws an AleError `snapshot-unknown`. */
  async #must(id: string): Promise<{ image: EngineImage; record: SnapshotRecord }> {
    const found = await this.#find(id);
    if (found !== undefined) return found;
    throw new AleError("snapshot-unknown", `there is no snapshot ${id}`, {
      next: "list the snapshots there are",
    });
  }

  async take(
    container: DockerContainer,
    spec: SandboxSpec,
    options: SnapshotOptions,
    shells: readonly ShellState[],
  ): Promise<SnapshotResult> {
    const name = container.engineId;
    const [stats, changes] = await Promise.all([
      statsOf(this.#engine, name),
      this.#engine.json("GET", `/containers/${name}/changes`, Changes),
    ]);
    const { image } = container;
    const parent = recordOf(image.labels[LABEL.snapshot]);
    const record: SnapshotRecord = {
      id: freshSandboxId().replace(/^sb-/, "sn-"),
      image: parent?.image ?? image.name,
      imageId: parent?.imageId ?? image.id,
      parent: parent?.id ?? null,
      sandbox: container.id,
      createdAtMs: Date.now(),
      labels: { ...options.labels },
      bytes: stats.diskBytes ?? 0,
      inodes: changes.length,
      depth: (parent?.depth ?? 0) + 1,
      spec: {
        workdir: spec.workdir,
        user: spec.user,
        env: spec.env === undefined ? undefined : { ...spec.env },
        idleMs: spec.idleMs,
        limits: spec.limits,
        network: spec.network,
      },
      shells: fitting(shells),
    };
    await this.#commit(name, record, image);
    return { snapshot: asSnapshot(record), processes: stats.pids === 0 ? "none" : "kept" };
  }

  /** The container's entry point and its environment are ours; the image that it becomes gets back what it had. */
  async #commit(name: string, record: SnapshotRecord, image: EngineImage): Promise<void> {
    const { user, workdir } = image.config;
    const label = (key: string, value: string): string => `LABEL ${key}=${value}`;
    const changes = [
      "ENTRYPOINT []",
      "CMD []",
      `USER ${user === "" ? "0:0" : user}`,
      `WORKDIR ${workdir}`,
      label(LABEL.kind, "snapshot"),
      label(LABEL.space, this.#space),
      label(LABEL.config, encode(image.config)),
      label(LABEL.snapshot, encode(record)),
    ];
    const query = { container: name, repo: REPOSITORY, tag: record.id, pause: true, changes };
    await this.#engine.json("POST", "/commit", Committed, { query, json: {} });
  }

  async remove(id: string): Promise<void> {
    const { image } = await this.#must(id);
    const reference = referenceOf(id);
    if ((await this.#untag(reference)) !== 409) return;
    // A sandbox stands on it: the name goes now, its layers with the last one.
    const query = { repo: DROPPED, tag: id };
    await this.#engine.order("POST", `/images/${image.id}/tag`, { query });
    await this.#untag(reference);
  }

  #untag(reference: string): Promise<number> {
    return this.#engine.order("DELETE", `/images/${reference}`, { accept: [404, 409] });
  }

  /** Layers of removed snapshots that nothing stands on any more. */
  async sweep(): Promise<void> {
    const images = await this.#all();
    for (const tag of images.flatMap((image) => image.RepoTags))
      if (tag.startsWith(`${DROPPED}:`)) await this.#untag(tag);
  }

  async forFork(id: string, options: ForkOptions = {}): Promise<Beginning & { spec: SandboxSpec }> {
    const { image, record } = await this.#must(id);
    const { limits, network, workdir, user, env, idleMs } = record.spec;
    const spec: SandboxSpec = {
      image: record.image,
      files: [],
      limits: options.limits ?? limits,
      network: policyAfter(options.network, network),
      env: { ...env, ...options.env },
      ...(workdir === undefined ? {} : { workdir }),
      ...(user === undefined ? {} : { user }),
      ...(idleMs === undefined ? {} : { idleMs }),
      ...(options.labels === undefined ? {} : { labels: options.labels }),
    };
    const beginning = this.#beginning(image, record);
    return { ...beginning, shells: beginning.shells.map((shell) => withVariables(shell, options.env)), spec };
  }

  /** Throws an AleError: `snapshot-unknown`, `snapshot-foreign`. */
  async forRevert(id: string, current: EngineImage): Promise<Beginning> {
    const { image, record } = await this.#must(id);
    const own = recordOf(current.labels[LABEL.snapshot])?.imageId ?? current.id;
    if (record.imageId !== own)
      throw new AleError("snapshot-foreign", `snapshot ${id} is not one of the image ${current.name}`, {
        next: "fork the snapshot instead",
      });
    return this.#beginning(image, record);
  }

  #beginning(image: EngineImage, record: SnapshotRecord): Beginning {
    const config = configOf(decode(image.labels[LABEL.config])) ?? image.config;
    const shells = record.shells.map((shell) => ({ ...shell, user: shell.user }));
    return { image: { ...image, name: record.image, config }, shells };
  }

  async diff(from: string | null, to: string): Promise<readonly DiffEntry[]> {
    const after = await this.#must(to);
    const before = from === null ? after.record.imageId : (await this.#must(from)).image.id;
    const [old, fresh] = await Promise.all([
      treeOf(this.#engine, before),
      treeOf(this.#engine, after.image.id),
    ]);
    return changesBetween(old, fresh);
  }
}

/** A shell that is brought back has the variables that it had; what is new in a fork comes on top. The script has one character a byte. */
function withVariables(shell: ShellState, env: Readonly<Record<string, string>> = {}): ShellState {
  const quoted = (value: string): string => `'${value.replaceAll("'", "'\\''")}'`;
  const lines = Object.entries(env)
    .filter(([name]) => /^[A-Za-z_][A-Za-z0-9_]*$/.test(name))
    .map(([name, value]) => `builtin export ${name}=${quoted(value)}\n`);
  // The last line brings back the last status.
  const at = Math.max(0, shell.script.lastIndexOf("__ale_status "));
  const exports = Buffer.from(lines.join("")).toString("latin1");
  return { ...shell, script: `${shell.script.slice(0, at)}${exports}${shell.script.slice(at)}` };
}

/** Labels travel in a request's line, which engines bound at a megabyte. */
const MAX_SHELLS_BYTES = 192 * 1024;

/** Sessions with more to remember begin anew. */
function fitting(shells: readonly ShellState[]): SnapshotRecord["shells"] {
  let left = MAX_SHELLS_BYTES;
  return shells
    .filter((shell) => {
      left -= JSON.stringify(shell).length;
      return left >= 0;
    })
    .map((shell) => ({ ...shell }));
}

const referenceOf = (id: string): string => `${REPOSITORY}:${id}`;

/** Labels are written in a Dockerfile's syntax, in which JSON would be taken apart. */
const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");

function decode(text: string | undefined): unknown {
  try {
    return text === undefined ? undefined : JSON.parse(Buffer.from(text, "base64url").toString("utf8"));
  } catch {
    return undefined;
  }
}

function recordOf(label: string | undefined): SnapshotRecord | undefined {
  const parsed = StoredRecord.safeParse(decode(label));
  return parsed.success ? parsed.data : undefined;
}

function asSnapshot(record: SnapshotRecord): Snapshot {
  const { spec: _spec, imageId: _imageId, shells: _shells, ...snapshot } = record;
  return snapshot;
}
