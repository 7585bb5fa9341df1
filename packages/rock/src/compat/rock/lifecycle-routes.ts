import { AleError } from "@ale/core";
import type { FastifyRequest } from "fastify";
import type { App } from "../../server/app.ts";
import { isLive, type SandboxRecord } from "../../server/record.ts";
import { imageFor } from "./commit.ts";
import type { RockContext } from "./context.ts";
import { badRequest, CODES } from "./envelope.ts";
import { recordOf } from "./record.ts";
import { SandboxId, StartRequest, StatusQuery } from "./requests.ts";
import { pathRoute, route } from "./route.ts";
import { createRequestOf, hostSize, withWorkerFiles } from "./start.ts";
import { hostOf, requireShown, statusOf } from "./status.ts";

/** ROCK's lifecycle: start, look, stop, restart, delete. */

/** `start` answers when it runs, or after so long. */
const START_WAIT_MS = 80_000;
/** The first look at a pending sandbox is answered when it runs. Some clients give up a look after 10 s. */
const STATUS_WAIT_MS = 4_500;

export function lifecycleRoutes(app: App, context: RockContext): void {
  startRoutes(app, context);
  statusRoutes(app, context);
  endRoutes(app, context);
}

function startRoutes(app: App, context: RockContext): void {
  const { service } = context;
  const common = { method: "POST", scope: "sandbox:write", schema: StartRequest } as const;
  route(
    app,
    context,
    { ...common, path: "/start_async", failure: "async start sandbox failed" },
    async ({ input, tenant, request }) => started(begin(context, tenant, input, request), request),
  );
  route(
    app,
    context,
    { ...common, path: "/start", failure: "start sandbox failed" },
    async ({ input, tenant, request, signal }) => {
      const { id } = begin(context, tenant, input, request);
      const record = await service.wait(tenant, id, { timeoutMs: START_WAIT_MS }, signal);
      if (record.state === "running") return started(record, request);
      const { failure } = record;
      if (failure !== null) throw new AleError(failure.code, failure.message);
      throw new AleError("start-timeout", `${id} is still ${record.state} after ${START_WAIT_MS / 1000} s`);
    },
  );
}

function begin(
  { service, options }: RockContext,
  tenant: string,
  input: StartRequest,
  request: FastifyRequest,
): SandboxRecord {
  const header = (name: string): string => {
    const value = request.headers[name];
    return typeof value === "string" && value !== "" ? value.slice(0, 200) : "default";
  };
  const asker = {
    userId: header("x-user-id"),
    experimentId: header("x-experiment-id"),
    namespace: header("x-namespace"),
    cluster: header("x-cluster"),
  };
  const host = hostSize(options.freeDiskBytes?.() ?? 64 * 2 ** 30);
  const image = imageFor(options.images, tenant, input.image);
  const create = createRequestOf(input, asker, host, options.maxAllowed, image);
  try {
    return service.create(tenant, options.quirks === true ? withWorkerFiles(create) : create);
  } catch (error) {
    if (error instanceof AleError && error.code === "id-taken")
      throw badRequest(`Sandbox ${input.sandbox_id} already exists`);
    throw error;
  }
}

function started(record: SandboxRecord, request: FastifyRequest): Record<string, unknown> {
  const { cpus, memory, disk, host_name, host_ip } = statusOf(record, request.socket.localAddress);
  return {
    code: CODES.ok,
    exit_code: null,
    failure_reason: null,
    sandbox_id: record.id,
    host_name,
    host_ip,
    cpus,
    memory,
    disk,
    disk_limit_rootfs: disk,
  };
}

function statusRoutes(app: App, context: RockContext): void {
  const { service } = context;
  route(
    app,
    context,
    {
      method: "GET",
      path: "/get_status",
      scope: "sandbox:read",
      failure: "get sandbox status failed",
      schema: StatusQuery,
    },
    async ({ input, tenant, request, signal }) => {
      const id = input.sandbox_id;
      const first = requireShown(recordOf(context, tenant, id), input.include_all_states);
      const record =
        first.state === "pending"
          ? await service.wait(tenant, id, { timeoutMs: STATUS_WAIT_MS }, signal)
          : first;
      await touch(context, tenant, record);
      return statusOf(record, request.socket.localAddress);
    },
  );
  route(
    app,
    context,
    { method: "GET", path: "/is_alive", scope: "sandbox:read", failure: null, schema: SandboxId },
    async ({ input, tenant, request }) => {
      const alive = service.list(tenant, { states: ["running"] }).some(({ id }) => id === input.sandbox_id);
      return { is_alive: alive, message: hostOf(request.socket.localAddress).host_name };
    },
  );
  route(
    app,
    context,
    {
      method: "GET",
      path: "/get_sandbox_statistics",
      scope: "sandbox:read",
      failure: "get sandbox statistics failed",
      schema: SandboxId,
    },
    async ({ input, tenant, signal }) => {
      const sandbox = await service.use(tenant, input.sandbox_id, signal);
      const { limits } = sandbox.spec;
      const before = await sandbox.stats();
      await new Promise((resolve) => setTimeout(resolve, 100));
      const stats = await sandbox.stats();
      const percent = (part: number | null, whole: number): number =>
        part === null ? 0 : Math.round((part / whole) * 10_000) / 100;
      const busyMs = stats.cpuMs === null || before.cpuMs === null ? null : stats.cpuMs - before.cpuMs;
      return {
        cpu: percent(busyMs, Math.max(1, stats.uptimeMs - before.uptimeMs) * limits.cpus),
        mem: percent(stats.memoryBytes, limits.memoryBytes),
        disk: percent(stats.diskBytes, limits.diskBytes),
        disk_log_percent: 0,
        disk_dind_percent: 0,
        net: 0,
      };
    },
  );
}

/** Looking at a sandbox counts as using it: its client is still there. */
async function touch({ service }: RockContext, tenant: string, record: SandboxRecord): Promise<void> {
  if (record.state !== "running") return;
  try {
    const sandbox = await service.use(tenant, record.id);
    await sandbox.readFile("/dev/null", { maxBytes: 1 });
  } catch {
    // It ended meanwhile; the next look says so.
  }
}

function endRoutes(app: App, context: RockContext): void {
  const { service } = context;
  const common = { method: "POST", scope: "sandbox:write", schema: SandboxId } as const;
  route(
    app,
    context,
    { ...common, path: "/stop", failure: "stop sandbox failed" },
    async ({ input, tenant }) => {
      const record = recordOf(context, tenant, input.sandbox_id);
      if (isLive(record))
        if (record.deleteAfterStopMs === 0) await service.delete(tenant, input.sandbox_id);
        else await service.stop(tenant, input.sandbox_id);
      return `${input.sandbox_id} stopped`;
    },
  );
  route(
    app,
    context,
    { ...common, path: "/delete", failure: "delete sandbox failed" },
    async ({ input, tenant }) => {
      const id = input.sandbox_id;
      const known = service.list(tenant, { states: ["pending", "running", "stopped", "failed"] });
      const record = known.find((each) => each.id === id);
      if (record !== undefined && isLive(record))
        throw badRequest(
          `Sandbox ${id} cannot be deleted: current state is '${record.state}', stop it first`,
        );
      if (record !== undefined) await service.delete(tenant, id);
      return `${id} deleted`;
    },
  );
  const restart = async (tenant: string, id: string, request: FastifyRequest): Promise<unknown> => {
    const record = recordOf(context, tenant, id);
    // Of the native API that is no error; ROCK's clients expect one.
    if (isLive(record))
      throw badRequest(
        `Sandbox ${id} cannot be restarted: current state is '${record.state}', stop it first`,
      );
    return started(await service.restart(tenant, id), request);
  };
  route(
    app,
    context,
    { ...common, path: "/restart", failure: "restart sandbox failed" },
    async ({ input, tenant, request }) => restart(tenant, input.sandbox_id, request),
  );
  pathRoute(
    app,
    context,
    {
      method: "POST",
      path: "/sandboxes/:sandboxId/restart",
      scope: "sandbox:write",
      failure: "restart sandbox failed",
    },
    async ({ input, tenant, request }) => restart(tenant, input.sandbox_id, request),
  );
  pathRoute(
    app,
    context,
    {
      method: "POST",
      path: "/sandboxes/:sandboxId/archive",
      scope: "sandbox:write",
      failure: "archive sandbox failed",
    },
    async ({ input, tenant }) => {
      const { id, state } = recordOf(context, tenant, input.sandbox_id);
      throw badRequest(
        state === "stopped"
          ? `Sandbox ${id} cannot be archived: no archive is configured; it keeps its files until it is deleted, or commit it to an image`
          : `Sandbox ${id} cannot be archived: current state is '${state}', stop it first`,
      );
    },
  );
}
