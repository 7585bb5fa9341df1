import type { SandboxDriver } from "../../port/driver.ts";
import type { GemHost } from "./registry.ts";

/** Sandboxes for environments that are played in this process, without a server. */
export const driverHost = (driver: SandboxDriver): GemHost => ({
  create: (spec, signal) => driver.create(spec, signal),
  snapshot: async (sandbox, signal) => (await sandbox.snapshot({}, signal)).snapshot.id,
  fork: async (snapshot, signal) => (await driver.snapshots.fork(snapshot, 1, {}, signal))[0]!,
  removeSnapshot: (snapshot) => driver.snapshots.remove(snapshot),
});
