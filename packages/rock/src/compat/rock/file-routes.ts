import { posix } from "node:path";
import type { Result } from "@ale/core";
import type { MultipartFile } from "@fastify/multipart";
import multipart from "@fastify/multipart";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { FileError } from "../../port/files.ts";
import type { App } from "../../server/app.ts";
import { fileProblem } from "../../wire/problem.ts";
import { goneSignal, scopeOf, tenantOf } from "../caller.ts";
import type { RockContext } from "./context.ts";
import { badRequest } from "./envelope.ts";
import { decode } from "./python-text.ts";
import { faultsOf, ReadFile, Upload, WriteFile } from "./requests.ts";
import { enveloped, PREFIX, route } from "./route.ts";

/** ROCK's files: one text read, one text written, one file uploaded. */

/** Texts travel inside JSON and are held in memory. */
const MAX_TEXT_BYTES = 64 * 2 ** 20;
const MAX_UPLOAD_BYTES = 64 * 2 ** 30;

export async function fileRoutes(app: App, context: RockContext): Promise<void> {
  const { service } = context;
  const common = { method: "POST", scope: "files" } as const;
  route(
    app,
    context,
    { ...common, path: "/read_file", failure: "read file failed", schema: ReadFile },
    async ({ input, tenant, signal }) => {
      const sandbox = await service.use(tenant, input.sandbox_id, signal);
      const path = absolute(input.path);
      const bytes = take(await sandbox.files.read(path, { maxBytes: MAX_TEXT_BYTES }));
      return { content: textOf(bytes, path, input.encoding ?? "utf-8", input.errors ?? "strict") };
    },
  );
  route(
    app,
    context,
    {
      ...common,
      path: "/write_file",
      failure: "write file failed",
      schema: WriteFile,
      // Every character may be written as six.
      bodyBytes: 6 * MAX_TEXT_BYTES,
    },
    async ({ input, tenant, signal }) => {
      const sandbox = await service.use(tenant, input.sandbox_id, signal);
      const path = absolute(input.path);
      take(await sandbox.files.write(path, input.content));
      return { success: true, message: `written to ${path}` };
    },
  );
  await app.register(async (scope) => {
    await scope.register(multipart, {
      limits: { fileSize: MAX_UPLOAD_BYTES, files: 1, fields: 16, fieldSize: 64 * 1024 },
    });
    uploadRoute(scope as unknown as App, context);
  });
}

function uploadRoute(app: App, context: RockContext): void {
  app.route({
    method: "POST",
    url: `${PREFIX}/upload`,
    config: { scope: scopeOf(context.options, "files") },
    schema: { hide: true },
    handler: (request, reply) => enveloped("upload file failed", () => upload(context, request, reply)),
  });
}

/** The file goes into the sandbox as it comes; it is never whole in memory. */
async function upload(
  { service, options }: RockContext,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<unknown> {
  const tenant = tenantOf(options, request);
  const part = request.isMultipart() ? await request.file() : undefined;
  if (part === undefined) throw badRequest("body.file: a file is needed, as multipart/form-data");
  const fields = Upload.safeParse(textsOf(part));
  if (!fields.success) {
    part.file.resume();
    throw badRequest(`${faultsOf(fields.error, "body")} (the fields must come before the file)`);
  }
  request.note({ sandbox: fields.data.sandbox_id.slice(0, 64) });
  try {
    const sandbox = await service.use(tenant, fields.data.sandbox_id, goneSignal(reply));
    const path = absolute(fields.data.target_path);
    // A write that gives up must not destroy the stream: the client sends on until its body is whole.
    take(await sandbox.files.write(path, part.file.iterator({ destroyOnReturn: false })));
    if (part.file.truncated) throw badRequest(`${part.filename} is larger than ${MAX_UPLOAD_BYTES} bytes`);
    return { success: true, message: `uploaded to ${path}`, file_name: part.filename };
  } finally {
    part.file.resume();
  }
}

const textsOf = (part: MultipartFile): Record<string, unknown> =>
  Object.fromEntries(
    Object.entries(part.fields).flatMap(([name, field]) => {
      const first = Array.isArray(field) ? field[0] : field;
      return first?.type === "field" ? [[name, first.value]] : [];
    }),
  );

function take<T>(result: Result<T, FileError>): T {
  if (result.ok) return result.value;
  throw badRequest(fileProblem(result.error).message);
}

/** Relative paths are those of the working directory, which is `/`. */
const absolute = (path: string): string => posix.resolve("/", path);

function textOf(
  bytes: Uint8Array,
  path: string,
  encoding: string,
  errors: Parameters<typeof decode>[2],
): string {
  let text: string | undefined;
  try {
    text = decode(bytes, encoding, errors);
  } catch {
    throw badRequest(`unknown encoding: ${encoding}`);
  }
  if (text !== undefined) return text;
  throw badRequest(
    `${path} is no ${encoding} text: pass an encoding, errors="replace", or read it by a program`,
  );
}
