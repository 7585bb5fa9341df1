import { STATUS_CODES } from "node:http";
import type { App } from "./app.ts";

/** The OpenAPI document of an application, made of the schemas that its routes validate with. */

export interface Operation {
  readonly operationId: string;
  readonly summary: string;
  readonly description?: string;
  readonly tags: readonly string[];
  /** What a token needs; `public`: none is needed. */
  readonly "x-scope": string;
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: Schema }>> };
  readonly responses: Readonly<Record<string, Response>>;
}

export interface Parameter {
  readonly name: string;
  readonly in: "path" | "query" | "header";
  readonly required?: boolean;
  readonly description?: string;
  readonly schema: Schema;
}

export interface Response {
  readonly description: string;
  readonly content?: Readonly<Record<string, { readonly schema: Schema }>>;
}

export type Schema = { readonly $ref?: string } & { readonly [key: string]: unknown };

export interface OpenApiDocument {
  readonly openapi: string;
  readonly info: { readonly title: string; readonly version: string; readonly description: string };
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: {
    readonly schemas: Readonly<Record<string, Schema>>;
    readonly securitySchemes: Readonly<Record<string, unknown>>;
  };
}

export function openApiOf(app: App): OpenApiDocument {
  const raw = app.swagger() as unknown as OpenApiDocument;
  const paths: Record<string, Record<string, Operation>> = {};
  for (const [path, operations] of Object.entries(raw.paths)) {
    const url = path.replace("{*}", "{path}");
    paths[url] = Object.fromEntries(
      Object.entries(operations).map(([method, operation]) => [method, tidied(method, url, operation)]),
    );
  }
  return withUsedSchemas({ ...raw, paths });
}

function tidied(method: string, url: string, operation: Operation): Operation {
  const { "x-answers": answers, ...rest } = operation as Operation & { "x-answers"?: string };
  const responses = Object.fromEntries(
    Object.entries(operation.responses).map(([status, response]) => [
      status,
      describedResponse(status, response),
    ]),
  );
  const own = answers === undefined ? {} : answerOf(answers);
  const parameters = operation.parameters?.map((parameter) =>
    parameter.name === "*" ? { ...parameter, name: "path" } : parameter,
  );
  return {
    ...rest,
    operationId: operationIdOf(method, url),
    ...(parameters === undefined ? {} : { parameters }),
    responses: { ...own, ...responses },
  };
}

/** What a route answers that no schema describes: bytes, events, or a WebSocket. */
function answerOf(kind: string): Record<string, Response> {
  if (kind === "websocket") return { 101: { description: "The connection is a WebSocket from here on" } };
  const schema = { type: "string", ...(kind.startsWith("text/") ? {} : { format: "binary" }) };
  return { 200: { description: "OK", content: { [kind]: { schema } } } };
}

function describedResponse(status: string, { content, ...response }: Response): Response {
  const isProblem = status.endsWith("XX");
  const description = isProblem ? "A problem (RFC 9457)" : (STATUS_CODES[status] ?? response.description);
  if (content === undefined || status === "204") return { description };
  const [first] = Object.values(content);
  return { description, content: isProblem ? { "application/problem+json": first! } : content };
}

const operationIdOf = (method: string, url: string): string =>
  [method, ...url.replace(/^\/v1\//, "").split(/[/{}.-]+/)]
    .filter((word) => word !== "")
    .map((word, index) => (index === 0 ? word : word[0]!.toUpperCase() + word.slice(1)))
    .join("");

/** Each schema has a form that goes in and one that comes out; only what is used stays, under its plain name where that is free. */
function withUsedSchemas(document: OpenApiDocument): OpenApiDocument {
  const all = document.components.schemas;
  const used = new Set<string>();
  const visit = (value: unknown): void => {
    for (const [, name] of JSON.stringify(value).matchAll(/"#\/components\/schemas\/([^"]+)"/g)) {
      if (used.has(name!)) continue;
      used.add(name!);
      visit(all[name!]);
    }
  };
  visit(document.paths);
  const plain = (name: string): string => {
    const short = name.replace(/Input$/, "");
    return short !== name && !used.has(short) ? short : name;
  };
  const text = JSON.stringify({
    ...document,
    components: {
      ...document.components,
      schemas: Object.fromEntries([...used].sort().map((name) => [plain(name), all[name]])),
    },
  });
  return JSON.parse(
    text.replace(
      /"#\/components\/schemas\/([^"]+)"/g,
      (_all, name: string) => `"#/components/schemas/${plain(name)}"`,
    ),
  ) as OpenApiDocument;
}
