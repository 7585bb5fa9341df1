import { AleError } from "@ale/core";
import type { SandboxDriver } from "../port/driver.ts";
import type { Sandbox } from "../port/sandbox.ts";
import { commitLayers, isLayered, type LayeredDriver, type Layers } from "../snapshot/commit.ts";
import { type EvidenceRecord, newEvidence, readEvidence, writeEvidence } from "./book.ts";

/**
 * Puts a sandbox into quarantine: frozen as it is for as long as its driver lives, a snapshot for who works with the same driver, and an
 * image for everybody after that. The image can be removed only when a person has released it.
 */

export interface Quarantine {
  /** Why its processes could not be stopped; undefined where they are. */
  readonly notFrozen: string | undefined;
  readonly snapshot: string | undefined;
  readonly image: string | undefined;
  /** What could not be done. */
  readonly failures: readonly string[];
}

export interface QuarantineOptions {
  /** Becomes the tag of the image. */
  readonly id: string;
  readonly labels: Readonly<Record<string, string>>;
  /** When nothing in the sandbox runs any more. */
  readonly onFrozen?: () => void;
}

/** Never throws for what the sandbox, the driver or the disk cannot do: that is told. */
export async function quarantine(
  driver: SandboxDriver,
  sandbox: Sandbox,
  options: QuarantineOptions,
): Promise<Quarantine> {
  const { id, labels } = options;
  const failures: string[] = [];
  const layered = isLayered(driver) ? driver : undefined;
  // First: from now on a crash does not lose it.
  const wanted = layered === undefined ? undefined : await wish(layered, sandbox, options, failures);
  const frozen = await attempt(() => sandbox.freeze({ hold: true }));
  if (frozen.ok) options.onFrozen?.();
  // Before the snapshot, which ends with this process.
  const early =
    layered !== undefined && wanted !== undefined && frozen.ok
      ? await keepFiles(layered, wanted, () => layered.frozenLayers(sandbox.id))
      : undefined;
  const taken = await attempt(() => sandbox.snapshot({ processes: "keep", labels }));
  if (!taken.ok) failures.push(`no snapshot could be taken (${taken.what})`);
  const late =
    layered !== undefined && wanted !== undefined && early?.ok !== true && taken.ok
      ? await keepFiles(layered, wanted, () => layered.snapshotLayers(taken.value.snapshot.id))
      : undefined;
  const kept = late ?? early;
  if (kept?.ok === false)
    failures.push(
      `its files could not be kept as an image (${kept.what}), which is tried again when this process ends`,
    );
  if (layered !== undefined && wanted !== undefined) endWhenReleased(layered.home, id, sandbox);
  return {
    notFrozen: frozen.ok ? undefined : frozen.what,
    snapshot: taken.ok ? taken.value.snapshot.id : undefined,
    image: kept?.ok === true ? kept.value : undefined,
    failures,
  };
}

async function wish(
  driver: LayeredDriver,
  sandbox: Sandbox,
  { id, labels }: QuarantineOptions,
  failures: string[],
): Promise<EvidenceRecord | undefined> {
  const written = await attempt(async () => {
    const record = newEvidence(id, { sandbox: sandbox.id, space: await driver.space(), labels });
    writeEvidence(driver.home, record);
    return record;
  });
  if (!written.ok) failures.push(`that it is evidence could not be written down (${written.what})`);
  return written.ok ? written.value : undefined;
}

async function keepFiles(
  driver: LayeredDriver,
  record: EvidenceRecord,
  layersOf: () => Promise<Layers>,
): Promise<Attempted<string>> {
  const done = await attempt(async () =>
    writeEvidence(driver.home, await kept(driver.home, record, await layersOf(), false)),
  );
  if (done.ok) return { ok: true, value: record.image };
  await attempt(async () =>
    writeEvidence(driver.home, { ...record, files: { type: "wanted", why: done.what } }),
  );
  return done;
}

/** Makes the image. Throws an AleError. */
export async function kept(
  home: string,
  record: EvidenceRecord,
  layers: Layers,
  salvaged: boolean,
): Promise<EvidenceRecord> {
  const { image, bytes } = await commitLayers(home, layers, {
    name: record.image,
    sandbox: record.sandbox,
    held: `it is evidence (${record.id})`,
  });
  const files = { type: "kept", atMs: Date.now(), digest: image.digest, bytes, salvaged } as const;
  // It may have been released meanwhile.
  return { ...(readEvidence(home, record.id) ?? record), files };
}

const LOOK_MS = 2_000;

/** Whoever releases it may be another process; what is frozen takes memory for as long as it is. */
function endWhenReleased(home: string, id: string, sandbox: Sandbox): void {
  const timer = setInterval(() => {
    if (readEvidence(home, id)?.released) sandbox.destroy().catch(() => {});
  }, LOOK_MS).unref();
  void sandbox.ended.then(() => clearInterval(timer));
}

type Attempted<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly what: string };

async function attempt<T>(work: () => Promise<T>): Promise<Attempted<T>> {
  try {
    return { ok: true, value: await work() };
  } catch (error) {
    // Of the file system's own errors none may end what watches the episode.
    if (error instanceof AleError || (error as NodeJS.ErrnoException).code !== undefined)
      return { ok: false, what: (error as Error).message };
    throw error;
  }
}
