import { TelemetrySource } from "@ale/core";
import { z } from "zod";

/** What a server says of itself, and tokens, on the wire of the native API. */

export const Health = z.object({
  status: z.enum(["ok", "degraded"]),
  version: z.string(),
  audit: z.boolean(),
});

export const CapabilitiesView = z
  .object({
    driver: z.enum(["oci", "docker"]),
    runtime: z.string(),
    rootless: z.boolean(),
    cgroup: z.enum(["v1", "v2", "hybrid", "none"]),
    userns: z.boolean(),
    idmap: z.boolean(),
    enforces: z.object({ cpu: z.boolean(), memory: z.boolean(), pids: z.boolean(), disk: z.boolean() }),
    quota: z.array(z.enum(["tmpfs", "loop", "project", "engine", "none"])),
    network: z.array(z.enum(["none", "allowlist", "gateway-only", "open"])),
    trace: z.array(z.enum(["audit", "kernel-log", "tracefs"])),
    telemetry: z.array(TelemetrySource),
    arguments: z.enum(["kernel", "proc", "none"]),
    checkpoint: z.enum(["layers", "commit", "none"]),
    weaker: z.array(z.object({ what: z.string(), why: z.string() })),
  })
  .meta({ id: "Capabilities" });

const Amounts = {
  sandboxes: z.number(),
  cpus: z.number(),
  memoryBytes: z.number(),
  diskBytes: z.number(),
};
export const UsageView = z.object({
  tenant: z.string(),
  used: z.object(Amounts),
  quota: z.object({ ...Amounts, snapshotBytes: z.number(), creationsPerMinute: z.number() }),
});

export const TokenScope = z.enum(["sandbox:read", "sandbox:write", "exec", "files", "image", "admin"]);
export const TokenView = z
  .object({
    id: z.string(),
    tenant: z.string(),
    scopes: z.array(TokenScope),
    createdAtMs: z.number(),
    expiresAtMs: z.number().nullable(),
  })
  .meta({ id: "Token" });
export const TokenList = z.object({ tokens: z.array(TokenView) });
export const TokenCreate = z.strictObject({
  tenant: z.string().min(1).max(63),
  scopes: z.array(TokenScope).min(1),
  expiresAtMs: z.number().int().positive().optional(),
});
export const TokenCreated = z.object({
  id: z.string(),
  token: z.string().describe("Shown here and never again."),
});
export const TokenParams = z.object({ tokenId: z.string().max(64) });

export const ImageView = z
  .object({
    name: z.string(),
    digest: z.string(),
    bytes: z.number(),
    createdAtMs: z.number().nullable(),
  })
  .meta({ id: "Image" });
export const ImageList = z.object({ images: z.array(ImageView) });
export const ImageName = z.strictObject({ name: z.string().min(1).max(512) });
