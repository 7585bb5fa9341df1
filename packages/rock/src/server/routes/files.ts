import { Readable } from "node:stream";
import { AleError } from "@ale/core";
import type { FastifyReply } from "fastify";
import { z } from "zod";
import type { SandboxFiles, WriteOptions } from "../../port/files.ts";
import type { Sandbox } from "../../port/sandbox.ts";
import {
  ContentQuery,
  FileList,
  FileStatView,
  FingerprintBody,
  Fingerprints,
  ListFilesQuery,
  PathQuery,
  StatQuery,
  Uploaded,
  UploadQuery,
  WatchQuery,
  WriteFilesBody,
  WriteQuery,
  Written,
} from "../../wire/file-schemas.ts";
import { SandboxParams } from "../../wire/schemas.ts";
import type { App, AppContext } from "../app.ts";
import { byteRange } from "../byte-range.ts";
import { gone, type ServerEvent, sendEvents, uploadOf } from "../streams.ts";
import { taken, writeWhole } from "../uploads.ts";
import { problems } from "./responses.ts";

/** Files of the native API: read, written and watched. Everything of any size is a stream. */

const tags = ["files"];
const scope = "files";
const UPLOAD = { idleMs: 30_000, maxBytes: 1024 ** 4 };
const PIECE_BYTES = 2 ** 20;

export function fileRoutes(app: App, context: AppContext): void {
  const { service, closing } = context;
  const use = (tenant: string, id: string): Promise<Sandbox> => service.use(tenant, id);

  app.get(
    "/sandboxes/:sandboxId/files/stat",
    {
      config: { scope },
      schema: {
        tags,
        summary: "Type, size, mode and owner of a path",
        params: SandboxParams,
        querystring: StatQuery,
        response: { 200: FileStatView, ...problems },
      },
    },
    async ({ caller, params, query }) => {
      const { files } = await use(caller.tenant, params.sandboxId);
      return taken(await files.stat(query.path, { followLinks: query.followLinks }));
    },
  );

  app.get(
    "/sandboxes/:sandboxId/files/list",
    {
      config: { scope },
      schema: {
        tags,
        summary: "Entries of a directory",
        params: SandboxParams,
        querystring: ListFilesQuery,
        response: { 200: FileList, ...problems },
      },
    },
    async ({ caller, params, query }) => {
      const { files } = await use(caller.tenant, params.sandboxId);
      const { path, ...options } = query;
      const { entries, more } = taken(await files.list(path, options));
      return { entries: [...entries], more };
    },
  );

  app.get(
    "/sandboxes/:sandboxId/files/content",
    {
      config: { scope },
      schema: {
        tags,
        summary: "The bytes of a file; `Range: bytes=…` for a part",
        answers: "application/octet-stream",
        params: SandboxParams,
        querystring: ContentQuery,
        response: problems,
      },
    },
    async ({ caller, params, query, headers }, reply) => {
      const sandbox = await use(caller.tenant, params.sandboxId);
      const { path, links, maxBytes } = query;
      const most = maxBytes === undefined ? {} : { maxBytes };
      if (links === "refuse") return sendBytes(reply, taken(await sandbox.readFile(path, most)));
      if (headers.range !== undefined)
        return sendRange(sandbox.files, path, headers.range, maxBytes ?? Infinity, reply);
      if (maxBytes !== undefined) return sendBytes(reply, taken(await sandbox.files.read(path, most)));
      return sendStream(reply, taken(await sandbox.files.readStream(path)));
    },
  );

  app.put(
    "/sandboxes/:sandboxId/files/content",
    {
      config: { scope, stream: true },
      schema: {
        tags,
        summary: "Write a file whole, or append to it",
        description:
          "The body is the bytes (application/octet-stream). One that breaks off changes nothing, except where it appended.",
        consumes: ["application/octet-stream"],
        params: SandboxParams,
        querystring: WriteQuery,
        response: { 200: Written, ...problems },
      },
    },
    async ({ caller, params, query, body }) => {
      const { files } = await use(caller.tenant, params.sandboxId);
      const { path, ...options } = query;
      return writeWhole(files, path, uploadOf(bodyOf(body), UPLOAD), options as WriteOptions);
    },
  );

  app.post(
    "/sandboxes/:sandboxId/files",
    {
      config: { scope },
      schema: {
        tags,
        summary: "Write several small files; no link is followed",
        params: SandboxParams,
        body: WriteFilesBody,
        response: { 204: z.null(), ...problems },
      },
    },
    async ({ caller, params, body }, reply) => {
      const sandbox = await use(caller.tenant, params.sandboxId);
      taken(await sandbox.writeFiles(body.files));
      return reply.code(204).send(null);
    },
  );

  app.put(
    "/sandboxes/:sandboxId/files/archive",
    {
      config: { scope, stream: true },
      schema: {
        tags,
        summary: "Unpack a tar stream (plain or gzip) below a directory",
        consumes: ["application/x-tar"],
        params: SandboxParams,
        querystring: UploadQuery,
        response: { 200: Uploaded, ...problems },
      },
    },
    async ({ caller, params, query, body }) => {
      const { files } = await use(caller.tenant, params.sandboxId);
      const options = query.user === undefined ? {} : { user: query.user };
      return taken(await files.upload(query.directory, uploadOf(bodyOf(body), UPLOAD), options));
    },
  );

  app.get(
    "/sandboxes/:sandboxId/files/archive",
    {
      config: { scope },
      schema: {
        tags,
        summary: "A file or directory as a tar stream",
        answers: "application/x-tar",
        params: SandboxParams,
        querystring: PathQuery,
        response: problems,
      },
    },
    async ({ caller, params, query }, reply) => {
      const { files } = await use(caller.tenant, params.sandboxId);
      const tar = taken(await files.download(query.path));
      return sendStream(reply.type("application/x-tar"), tar);
    },
  );

  app.get(
    "/sandboxes/:sandboxId/files/watch",
    {
      config: { scope },
      schema: {
        tags,
        summary: "Changes below a path as server-sent events",
        description: "Events: `created`, `changed`, `removed`, each with {path}; `error` (a problem).",
        answers: "text/event-stream",
        params: SandboxParams,
        querystring: WatchQuery,
        response: problems,
      },
    },
    async (request, reply) => {
      const { caller, params, query } = request;
      const { files } = await use(caller.tenant, params.sandboxId);
      const signal = gone(request, reply, closing);
      const changes = files.watch(query.path, { recursive: query.recursive }, signal);
      return sendEvents(reply, changeEvents(changes, signal));
    },
  );

  app.post(
    "/sandboxes/:sandboxId/files/fingerprints",
    {
      config: { scope },
      schema: {
        tags,
        summary: "Hashes of paths, read from outside without a trace",
        params: SandboxParams,
        body: FingerprintBody,
        response: { 200: Fingerprints, ...problems },
      },
    },
    async ({ caller, params, body }) => {
      const sandbox = await use(caller.tenant, params.sandboxId);
      return { fingerprints: [...(await sandbox.fingerprint(body.paths))] };
    },
  );
}

async function* changeEvents(
  changes: AsyncIterable<{ readonly type: string; readonly path: string }>,
  signal: AbortSignal,
): AsyncGenerator<ServerEvent> {
  try {
    for await (const { type, path } of changes) yield { event: type, data: { path } };
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

async function sendRange(
  files: SandboxFiles,
  path: string,
  header: string,
  maxBytes: number,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const { size } = taken(await files.stat(path, { followLinks: true }));
  const range = byteRange(header, size);
  if (range === undefined) return sendStream(reply, taken(await files.readStream(path)));
  const { offset, length } = range;
  if (length > maxBytes)
    throw new AleError("too-large", `${path}: ${length} bytes are more than ${maxBytes}`, {
      next: "ask for a smaller range, or for more",
    });
  reply.code(206).header("content-range", `bytes ${offset}-${offset + length - 1}/${size}`);
  if (length > PIECE_BYTES) return sendStream(reply, pieces(files, path, offset, length));
  return sendBytes(reply, taken(await files.read(path, { offset, length })));
}

/** Ends early where the file has become shorter. */
async function* pieces(
  files: SandboxFiles,
  path: string,
  begin: number,
  length: number,
): AsyncGenerator<Uint8Array> {
  for (let offset = begin; offset < begin + length; ) {
    const wanted = Math.min(PIECE_BYTES, begin + length - offset);
    const piece = taken(await files.read(path, { offset, length: wanted }));
    if (piece.length === 0) return;
    offset += piece.length;
    yield piece;
  }
}

const octets = "application/octet-stream";

/** What comes out of a sandbox is bytes, never a page to be shown. */
function sendBytes(reply: FastifyReply, bytes: Uint8Array): FastifyReply {
  return reply
    .type(octets)
    .header("x-content-type-options", "nosniff")
    .serializer((body: unknown) => body as string)
    .send(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
}

function sendStream(reply: FastifyReply, bytes: AsyncIterable<Uint8Array>): FastifyReply {
  if (!reply.hasHeader("content-type")) reply.type(octets);
  return reply
    .header("x-content-type-options", "nosniff")
    .serializer((body: unknown) => body as string)
    .send(Readable.from(bytes, { objectMode: false }));
}

async function* nothing(): AsyncGenerator<Uint8Array> {}

const bodyOf = (body: unknown): AsyncIterable<Uint8Array> => (body instanceof Readable ? body : nothing());
