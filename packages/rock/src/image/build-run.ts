import { join } from "node:path";
import { AleError, type Limits } from "@ale/core";
import type { OciDriver } from "../oci/oci-driver.ts";
import { packLayer } from "./layer-pack.ts";
import type { LayerRecord } from "./layers.ts";
import type { LocalImage } from "./local-image.ts";
import { type Store, stage } from "./store.ts";
import { makeLayer } from "./unpack.ts";

/** RUN: a program in a sandbox of our own above the layers so far; what it wrote becomes the next layer. */

export interface RunStep {
  readonly image: LocalImage;
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly user: string;
  readonly workdir: string;
  readonly network: "none" | "host";
  readonly limits: Limits;
}

const TAIL_BYTES = 4096;

/** Throws an AleError `build-failed` with the end of the program's output. */
export async function runStep(
  driver: OciDriver,
  store: Store,
  step: RunStep,
  onOutput: (chunk: Uint8Array) => void,
  signal?: AbortSignal,
): Promise<LayerRecord> {
  const { image, argv, env, user, workdir, limits, network } = step;
  const spec = {
    image: image.name,
    files: [],
    limits,
    network: { mode: "none" },
    workdir: "/",
    user: "root",
    labels: { purpose: "image build" },
  } as const;
  await using box = await driver.createFrom(image, spec, signal);
  const child = await box.start({ argv, env, user, cwd: workdir, timeoutMs: limits.execTimeoutMs }, signal);
  let tail = Buffer.alloc(0);
  const read = async (stream: AsyncIterable<Uint8Array>): Promise<void> => {
    for await (const chunk of stream) {
      onOutput(chunk);
      tail = Buffer.concat([tail, chunk]).subarray(-TAIL_BYTES);
    }
  };
  await Promise.all([read(child.stdout), read(child.stderr)]);
  const { exitCode, reason } = await child.exit;
  signal?.throwIfAborted();
  if (exitCode !== 0) {
    const how = reason === "exited" ? `exit code ${exitCode}` : reason;
    const offline = network === "none" && LOOKS_OFFLINE.test(tail.toString("utf8"));
    const said = tail.toString("utf8").trim();
    throw new AleError("build-failed", `the command failed (${how})${said === "" ? "" : `:\n${said}`}`, {
      next: offline
        ? "RUN has no network; allow the host's with `--network host` if you trust what the Dockerfile runs"
        : "repair the command, and build again: what was built before it is kept",
    });
  }
  using place = stage(store);
  const taken = join(place.path, "taken");
  await driver.takeLayer(box.id, taken);
  return await makeLayer(store, packLayer(taken, undefined, signal), signal);
}

const LOOKS_OFFLINE =
  /Temporary failure|Could not resolve|Name or service not known|Network is unreachable|Connection refused|getaddrinfo|NewConnectionError/i;
