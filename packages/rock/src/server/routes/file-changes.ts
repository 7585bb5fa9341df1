import { z } from "zod";
import { DirectoryBody, ModeBody, MoveBody, OwnerBody, RemoveQuery } from "../../wire/file-schemas.ts";
import { SandboxParams } from "../../wire/schemas.ts";
import type { App, AppContext } from "../app.ts";
import { taken } from "../uploads.ts";
import { problems } from "./responses.ts";

/** Changes of the native API to files that carry no contents. */

const tags = ["files"];
const scope = "files";
const response = { 204: z.null(), ...problems };

export function fileChangeRoutes(app: App, { service }: AppContext): void {
  app.post(
    "/sandboxes/:sandboxId/files/directory",
    {
      config: { scope },
      schema: {
        tags,
        summary: "Make a directory and its parents",
        params: SandboxParams,
        body: DirectoryBody,
        response,
      },
    },
    async ({ caller, params, body }, reply) => {
      const { files } = await service.use(caller.tenant, params.sandboxId);
      const { path, mode, user } = body;
      const options = { ...(mode === undefined ? {} : { mode }), ...(user === undefined ? {} : { user }) };
      taken(await files.makeDirectory(path, options));
      return reply.code(204).send(null);
    },
  );

  app.delete(
    "/sandboxes/:sandboxId/files",
    {
      config: { scope },
      schema: {
        tags,
        summary: "Remove a file, or a directory",
        params: SandboxParams,
        querystring: RemoveQuery,
        response,
      },
    },
    async ({ caller, params, query }, reply) => {
      const { files } = await service.use(caller.tenant, params.sandboxId);
      taken(await files.remove(query.path, { recursive: query.recursive }));
      return reply.code(204).send(null);
    },
  );

  app.post(
    "/sandboxes/:sandboxId/files/move",
    {
      config: { scope },
      schema: { tags, summary: "Move or rename", params: SandboxParams, body: MoveBody, response },
    },
    async ({ caller, params, body }, reply) => {
      const { files } = await service.use(caller.tenant, params.sandboxId);
      taken(await files.move(body.from, body.to, { overwrite: body.overwrite }));
      return reply.code(204).send(null);
    },
  );

  app.post(
    "/sandboxes/:sandboxId/files/owner",
    {
      config: { scope },
      schema: { tags, summary: "Change the owner", params: SandboxParams, body: OwnerBody, response },
    },
    async ({ caller, params, body }, reply) => {
      const { files } = await service.use(caller.tenant, params.sandboxId);
      taken(await files.changeOwner(body.path, body.user, { recursive: body.recursive }));
      return reply.code(204).send(null);
    },
  );

  app.post(
    "/sandboxes/:sandboxId/files/mode",
    {
      config: { scope },
      schema: { tags, summary: "Change permissions", params: SandboxParams, body: ModeBody, response },
    },
    async ({ caller, params, body }, reply) => {
      const { files } = await service.use(caller.tenant, params.sandboxId);
      taken(await files.changeMode(body.path, body.mode, { recursive: body.recursive }));
      return reply.code(204).send(null);
    },
  );
}
