import type { SandboxService } from "../../server/service.ts";
import type { GemHost } from "./registry.ts";

/** Sandboxes and snapshots for the environments of one tenant, counted against its quota and seen by nobody else. */
export function serviceHost(service: SandboxService, tenant: string): GemHost {
  return {
    create: async (spec, signal) => {
      const { id } = service.create(tenant, { spec, deleteAfterStopMs: 0, notes: { api: "gem" } });
      try {
        return await service.use(tenant, id, signal);
      } catch (error) {
        await service.delete(tenant, id).catch(() => undefined);
        throw error;
      }
    },
    snapshot: async (sandbox, signal) => (await service.snapshot(tenant, sandbox.id, {}, signal)).snapshot.id,
    fork: async (snapshot, signal) => {
      const [record] = await service.fork(tenant, snapshot, 1, {}, signal);
      return service.use(tenant, record!.id, signal);
    },
    removeSnapshot: (snapshot) => service.removeSnapshot(tenant, snapshot),
  };
}
