import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { type ResourceFigures, telemetryNow } from "@ale/core";
import type { CollectorKind, Observed, Tell } from "./collector.ts";
import { type GpuUse, parseGpuUse } from "./gpu-usage.ts";

/** Asks the driver of NVIDIA's graphics processors which processes use them, and tells of those that are a sandbox's. */

const EVERY_MS = 2_000;
const LATEST_MS = 10_000;
const run = promisify(execFile);

async function useNow(): Promise<readonly GpuUse[]> {
  try {
    const { stdout } = await run("nvidia-smi", ["pmon", "-c", "1", "-s", "u"], { timeout: LATEST_MS });
    return parseGpuUse(stdout);
  } catch {
    // The tool is there and the device is not, or it is being reset.
    return [];
  }
}

export function gpuCollector(ask: () => Promise<readonly GpuUse[]> = useNow): CollectorKind {
  return {
    sources: ["gpu"],
    start: (tell) => {
      const followed = new Map<string, Followed>();
      let asking: Promise<void> | undefined;
      const look = (): Promise<void> => {
        asking ??= ask()
          .then((uses) => {
            for (const one of followed.values()) one.hear(uses, tell);
          })
          .finally(() => {
            asking = undefined;
          });
        return asking;
      };
      const timer = setInterval(() => void look(), EVERY_MS).unref();
      return {
        follow: (sandbox) => void followed.set(sandbox.id, new Followed(sandbox)),
        forget: (id) => void followed.delete(id),
        // A sample is of the time at which it is taken; asking takes a second.
        drain: async () => {},
        [Symbol.dispose]: () => clearInterval(timer),
      };
    },
  };
}

class Followed {
  readonly #sandbox: Observed;
  #since: number | undefined;

  constructor(sandbox: Observed) {
    this.#sandbox = sandbox;
  }

  /** Nothing is told of a sandbox that uses none. */
  hear(uses: readonly GpuUse[], tell: Tell): void {
    const pids = new Set(this.#sandbox.pids());
    const own = uses.filter(({ pid }) => pids.has(pid));
    if (own.length === 0) {
      this.#since = undefined;
      return;
    }
    const at = telemetryNow();
    this.#since ??= at;
    const gpuShare = own.reduce((sum, { share }) => sum + share, 0);
    const busiest = own.reduce((one, other) => (other.share > one.share ? other : one));
    tell({
      at,
      kind: "resource.sample",
      source: "gpu",
      sandbox: this.#sandbox.id,
      process: { pid: busiest.pid },
      resource: {
        gpuShare,
        seconds: (at - this.#since) / 1000,
        gpus: new Set(own.map(({ gpu }) => gpu)).size,
      } satisfies ResourceFigures,
    });
  }
}
