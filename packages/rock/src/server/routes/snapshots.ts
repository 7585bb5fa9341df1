import { z } from "zod";
import type { SnapshotOptions } from "../../port/snapshot.ts";
import {
  DiffQuery,
  DiffView,
  ForkBody,
  RevertBody,
  SnapshotBody,
  SnapshotList,
  SnapshotParams,
  SnapshotTaken,
  SnapshotView,
} from "../../wire/file-schemas.ts";
import { SandboxList, SandboxParams } from "../../wire/schemas.ts";
import type { App, AppContext } from "../app.ts";
import type { ForkChanges } from "../snapshot-desk.ts";
import { gone } from "../streams.ts";
import { viewOf } from "../view.ts";
import { problems } from "./responses.ts";

/** Snapshots and forks of the native API. */

const tags = ["snapshots"];

export function snapshotRoutes(app: App, context: AppContext): void {
  const { service, closing } = context;

  app.post(
    "/sandboxes/:sandboxId/snapshots",
    {
      config: { scope: "sandbox:write" },
      schema: {
        tags,
        summary: "Take a snapshot of a sandbox's files",
        params: SandboxParams,
        body: SnapshotBody,
        response: { 201: SnapshotTaken, ...problems },
      },
    },
    async (request, reply) => {
      const { caller, params, body } = request;
      const signal = gone(request, reply, closing);
      const options = body as SnapshotOptions;
      const result = await service.snapshot(caller.tenant, params.sandboxId, options, signal);
      return reply.code(201).send({ ...result, snapshot: shown(result.snapshot) });
    },
  );

  app.get(
    "/snapshots",
    {
      config: { scope: "sandbox:read" },
      schema: { tags, summary: "List snapshots", response: { 200: SnapshotList, ...problems } },
    },
    async ({ caller }) => ({ snapshots: (await service.snapshots(caller.tenant)).map(shown) }),
  );

  app.get(
    "/snapshots/:snapshotId",
    {
      config: { scope: "sandbox:read" },
      schema: {
        tags,
        summary: "Get a snapshot",
        params: SnapshotParams,
        response: { 200: SnapshotView, ...problems },
      },
    },
    async ({ caller, params }) => shown(await service.getSnapshot(caller.tenant, params.snapshotId)),
  );

  app.delete(
    "/snapshots/:snapshotId",
    {
      config: { scope: "sandbox:write", frees: true },
      schema: {
        tags,
        summary: "Delete a snapshot",
        params: SnapshotParams,
        response: { 204: z.null(), ...problems },
      },
    },
    async ({ caller, params }, reply) => {
      await service.removeSnapshot(caller.tenant, params.snapshotId);
      return reply.code(204).send(null);
    },
  );

  app.post(
    "/snapshots/:snapshotId/forks",
    {
      config: { scope: "sandbox:write" },
      schema: {
        tags,
        summary: "Start sandboxes that begin where a snapshot was taken",
        description: "All of them run when this answers, or none is left.",
        params: SnapshotParams,
        body: ForkBody,
        response: { 201: SandboxList, ...problems },
      },
    },
    async (request, reply) => {
      const { count, ...options } = request.body;
      const { tenant } = request.caller;
      const signal = gone(request, reply, closing);
      const { snapshotId } = request.params;
      const forks = await service.fork(tenant, snapshotId, count, options as ForkChanges, signal);
      return reply.code(201).send({ sandboxes: forks.map(viewOf) });
    },
  );

  app.get(
    "/diff",
    {
      config: { scope: "files" },
      schema: {
        tags,
        summary: "What changed between two snapshots, or since the image",
        querystring: DiffQuery,
        response: { 200: DiffView, ...problems },
      },
    },
    async ({ caller, query }) => ({
      entries: [...(await service.diff(caller.tenant, query.from ?? null, query.to))],
    }),
  );

  app.post(
    "/sandboxes/:sandboxId/revert",
    {
      config: { scope: "sandbox:write" },
      schema: {
        tags,
        summary: "Go back to a snapshot of the same image",
        params: SandboxParams,
        body: RevertBody,
        response: { 204: z.null(), ...problems },
      },
    },
    async (request, reply) => {
      const { caller, params, body } = request;
      const signal = gone(request, reply, closing);
      await service.revert(caller.tenant, params.sandboxId, body.snapshot, signal);
      return reply.code(204).send(null);
    },
  );
}

const shown = (snapshot: z.infer<typeof SnapshotView>): z.infer<typeof SnapshotView> => ({
  ...snapshot,
  labels: { ...snapshot.labels },
});
