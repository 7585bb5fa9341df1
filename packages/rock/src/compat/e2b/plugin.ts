import { AleError, NetworkPolicy } from "@ale/core";
import type { FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import type { AppPlugin } from "../../server/app.ts";
import type { SandboxRecord } from "../../server/record.ts";
import type { CreateRequest } from "../../server/service.ts";
import { errorOf } from "../../server/thrown.ts";
import { statusOf } from "../../wire/problem.ts";
import { type CompatOptions, goneSignal, scopeOf, tenantOf } from "../caller.ts";
import { reasonOf } from "../rock/envelope.ts";

/**
 * The part of E2B's control API that ROCK serves: create, look at, end and list sandboxes. A template is an image. Errors are HTTP errors
 * with `{ code, message }`. What runs in a sandbox is reached through the other APIs: there is no envd.
 */

const CreateBody = z.strictObject({
  templateID: z.string().trim().min(1),
  timeout: z
    .number()
    .int()
    .positive()
    .max(14 * 86_400)
    .default(300),
  metadata: z.record(z.string(), z.string()).default({}),
  secure: z.boolean().optional(),
  allow_internet_access: z.boolean().optional(),
  envVars: z.record(z.string(), z.string()).default({}),
  autoPause: z.boolean().default(false),
  autoResume: z.unknown().optional(),
});
type CreateBody = z.infer<typeof CreateBody>;

/** Becomes the sandbox's id. */
const ID_KEY = "ap-sandbox-id";
const METADATA = "e2b.";
const OPEN = NetworkPolicy.parse({ mode: "open" });
const MIB = 2 ** 20;
const ENVD = "0.1.0";

const LIMITS = {
  cpus: 2,
  memoryBytes: 1_024 * MIB,
  diskBytes: 512 * MIB,
  pids: 4_096,
  outputBytes: 4 * MIB,
  execTimeoutMs: 86_400_000,
};

export function e2bApi(options: CompatOptions = {}): AppPlugin {
  return (app, { service }) => {
    const config = (scope: "sandbox:read" | "sandbox:write"): object => ({
      config: { scope: scopeOf(options, scope) },
      schema: { hide: true },
    });
    app.post("/sandboxes", config("sandbox:write"), (request, reply) =>
      answer(reply, async () => {
        const tenant = tenantOf(options, request);
        const body = parse(request.body);
        const { id } = service.create(tenant, createRequestOf(body));
        request.note({ sandbox: id });
        const record = await service.wait(tenant, id, {}, goneSignal(reply));
        if (record.failure !== null) throw new AleError(record.failure.code, record.failure.message);
        reply.code(201);
        return { sandboxID: id, envdVersion: ENVD, clientID: "rock", templateID: body.templateID };
      }),
    );
    app.get<{ Params: { sandboxId: string } }>(
      "/sandboxes/:sandboxId",
      config("sandbox:read"),
      (request, reply) => answer(reply, async () => shown(find(request as never, request.params.sandboxId))),
    );
    app.delete<{ Params: { sandboxId: string } }>(
      "/sandboxes/:sandboxId",
      config("sandbox:write"),
      (request, reply) =>
        answer(reply, async () => {
          const { id, tenant } = find(request as never, request.params.sandboxId);
          await service.delete(tenant, id);
          return reply.code(204).send();
        }),
    );
    app.get<{ Querystring: { metadata?: string } }>(
      "/v2/sandboxes",
      config("sandbox:read"),
      (request, reply) =>
        answer(reply, async () => {
          const wanted = Object.entries(filterOf(request.query.metadata));
          return service
            .list(tenantOf(options, request as never), { states: ["pending", "running", "stopped"] })
            .filter(({ spec }) => wanted.every(([key, value]) => spec.labels?.[METADATA + key] === value))
            .map(shown);
        }),
    );
    const find = (request: FastifyRequest, id: string): SandboxRecord => {
      const record = service.get(tenantOf(options, request), id);
      if (record.state === "deleted" || record.state === "failed")
        throw new AleError("sandbox-unknown", `there is no sandbox ${id}`);
      return record;
    };
  };
}

function createRequestOf(body: CreateBody): CreateRequest {
  const lifetimeMs = Math.ceil(body.timeout / 60) * 60_000;
  const id = body.metadata[ID_KEY];
  const labels = Object.entries(body.metadata).map(([key, value]) => [METADATA + key, value]);
  return {
    spec: {
      ...(id === undefined ? {} : { id }),
      image: body.templateID,
      files: [],
      limits: { ...LIMITS, lifetimeMs },
      // Refused by the service unless its operator allows the mode by name.
      network: body.allow_internet_access === true ? OPEN : { mode: "none" },
      env: body.envVars,
      labels: Object.fromEntries(labels),
    },
    ...(body.autoPause ? {} : { deleteAfterStopMs: 0 }),
    notes: { api: "e2b", template: body.templateID },
  };
}

function shown(record: SandboxRecord): Record<string, unknown> {
  const { limits, labels = {} } = record.spec;
  const metadata = Object.entries(labels).flatMap(([key, value]) =>
    key.startsWith(METADATA) ? [[key.slice(METADATA.length), value]] : [],
  );
  const startedAtMs = record.startedAtMs ?? record.createdAtMs;
  return {
    sandboxID: record.id,
    metadata: Object.fromEntries(metadata),
    state: record.state === "stopped" ? "paused" : "running",
    clientID: "rock",
    templateID: record.notes.template ?? record.spec.image,
    envdVersion: ENVD,
    cpuCount: limits.cpus,
    memoryMB: Math.floor(limits.memoryBytes / MIB),
    diskSizeMB: Math.floor(limits.diskBytes / MIB),
    startedAt: new Date(startedAtMs).toISOString(),
    endAt: new Date(startedAtMs + limits.lifetimeMs).toISOString(),
  };
}

/** "k=v&k=v" or "k:v,k:v". */
export function filterOf(text: string | undefined): Record<string, string> {
  if (text === undefined || text === "") return {};
  if (text.includes("=")) return Object.fromEntries(new URLSearchParams(text));
  const pairs = text.split(",").map((pair): [string, string] => {
    const at = pair.indexOf(":");
    if (at < 1) throw new AleError("request-invalid", `metadata: ${pair} is neither key=value nor key:value`);
    return [pair.slice(0, at).trim(), pair.slice(at + 1).trim()];
  });
  return Object.fromEntries(pairs);
}

function parse(body: unknown): CreateBody {
  const parsed = CreateBody.safeParse(body ?? {});
  if (parsed.success) return parsed.data;
  const text = parsed.error.issues.map(({ path, message }) => `${path.join(".") || "body"}: ${message}`);
  throw new AleError("request-invalid", text.join("; "));
}

async function answer(reply: FastifyReply, work: () => Promise<unknown>): Promise<unknown> {
  try {
    return await work();
  } catch (thrown) {
    const { error } = errorOf(thrown);
    const code = statusOf(error.code);
    return reply.code(code).send({ code, message: reasonOf(error) });
  }
}
