import { join } from "node:path";
import { AleError } from "@ale/core";
import type { SandboxDriver } from "../port/driver.ts";
import { type App, type AppPlugin, createApp } from "./app.ts";
import { AuditLog } from "./audit.ts";
import type { ImageShelf } from "./images.ts";
import { Metrics } from "./metrics.ts";
import { nativeApi } from "./native.ts";
import type { OpenApiDocument, Operation, Parameter, Schema } from "./openapi.ts";
import { SandboxService } from "./service.ts";
import { TokenStore } from "./token-store.ts";

/** The native API for readers, made of its OpenAPI document. */

/** A server that never serves: no sandbox is made. `directory` is empty and the caller's to remove. `more`: APIs besides the native one. */
export async function describedApp(directory: string, more: readonly AppPlugin[] = []): Promise<App> {
  const driver = NO_DRIVER as SandboxDriver;
  const service = await SandboxService.open({ driver, directory: join(directory, "served") });
  const audit = new AuditLog(join(directory, "audit"));
  const tokens = new TokenStore(join(directory, "tokens.json"));
  const metrics = new Metrics();
  const parts = { audit, metrics, tokens, images: NO_IMAGES, version: "1" };
  const app = await createApp({ service, audit, auth: tokens, plugins: [nativeApi(parts), ...more] });
  await app.ready();
  return app;
}

const none = (): never => {
  throw new AleError("no-driver", "this server only describes itself");
};
const NO_DRIVER: Pick<SandboxDriver, "list"> = { list: () => [] };
const NO_IMAGES: ImageShelf = { list: none, pull: none, remove: none };

const TITLES: Readonly<Record<string, string>> = {
  sandboxes: "Sandboxes",
  programs: "Programs",
  telemetry: "Telemetry",
  sessions: "Sessions",
  files: "Files",
  ports: "Ports",
  snapshots: "Snapshots and forks",
  images: "Images",
  server: "The server",
  approvals: "Approvals",
};

const INTRODUCTION = `# The HTTP API of sandboxes

Generated from the schemas by \`node scripts/make-rock-reference.ts\`; the same as OpenAPI is at \`/v1/openapi.json\` of a
running server (\`ale rock serve\`).

Send the header \`Authorization: Bearer TOKEN\`. What a token may do is its scopes; \`admin\` may everything. A token is of one
tenant, and sees nothing of another's. Failures are problems (RFC 9457, \`application/problem+json\`) with a stable \`code\`, a
\`detail\` for people, and \`next\`: what to do about it. A POST that makes a sandbox may carry an \`Idempotency-Key\`: the same
key again answers with the same sandbox. Unknown fields are refused.
`;

export function referenceText(document: OpenApiDocument): string {
  const sections = Object.entries(TITLES).flatMap(([tag, title]) => {
    const routes = Object.entries(document.paths).flatMap(([path, operations]) =>
      Object.entries(operations)
        .filter(([, operation]) => operation.tags.includes(tag))
        .map(([method, operation]) => routeText(method, path, operation)),
    );
    return routes.length === 0 ? [] : [`## ${title}\n\n${routes.join("\n")}`];
  });
  const schemas = Object.entries(document.components.schemas).map(
    ([name, schema]) => `### ${name}\n\n${schemaText(schema)}\n`,
  );
  return `${INTRODUCTION}\n${sections.join("\n")}\n## Schemas\n\n${schemas.join("\n")}`;
}

function routeText(method: string, path: string, operation: Operation): string {
  const { parameters = [], requestBody } = operation;
  const asked = parameters.filter((parameter) => parameter.in !== "path");
  const answers = Object.entries(operation.responses)
    .filter(([status]) => !status.endsWith("XX"))
    .map(([status, { description, content }]) => `\`${status}\` ${contentText(content) ?? description}`);
  const scope = operation["x-scope"];
  return [
    `### ${method.toUpperCase()} ${path}\n`,
    `${operation.summary}.${operation.description === undefined ? "" : ` ${operation.description}`}`,
    `${scope === "public" ? "Needs no token." : `Scope \`${scope}\`.`}${answers.length > 0 ? ` Answers ${answers.join(", ")}.` : ""}\n`,
    ...(asked.length === 0 ? [] : [parameterTable(asked)]),
    ...(requestBody === undefined ? [] : [bodyText(requestBody.content)]),
  ].join("\n");
}

function contentText(
  content: Readonly<Record<string, { readonly schema: Schema }>> | undefined,
): string | undefined {
  const [entry] = Object.entries(content ?? {});
  if (entry === undefined) return undefined;
  const [type, { schema }] = entry;
  return type === "application/json" ? typeText(schema) : `\`${type}\``;
}

const parameterTable = (parameters: readonly Parameter[]): string =>
  table(
    parameters.map(({ name, required, schema, description }) => ({ name, required, schema, description })),
  );

function bodyText(content: Readonly<Record<string, { readonly schema: Schema }>>): string {
  const [[type, { schema }] = ["", { schema: {} as Schema }]] = Object.entries(content);
  if (type !== "application/json") return `Body: \`${type}\`.\n`;
  if (schema.$ref !== undefined) return `Body: ${typeText(schema)}.\n`;
  return `Body:\n\n${schemaText(schema)}\n`;
}

interface Row {
  readonly name: string;
  readonly required?: boolean | undefined;
  readonly schema: Schema;
  readonly description?: string | undefined;
}

function schemaText(schema: Schema): string {
  const properties = schema.properties as Record<string, Schema> | undefined;
  if (properties === undefined) return `${typeText(schema)}\n`;
  const required = (schema.required as readonly string[] | undefined) ?? [];
  return table(
    Object.entries(properties).map(([name, property]) => ({
      name,
      required: required.includes(name) && property.default === undefined,
      schema: property,
      description: property.description as string | undefined,
    })),
  );
}

function table(rows: readonly Row[]): string {
  if (rows.length === 0) return "";
  const lines = rows.map(({ name, required, schema, description }) => {
    const preset = schema.default === undefined ? "" : `default \`${JSON.stringify(schema.default)}\``;
    const about = [required ? "required" : "", preset, description ?? ""]
      .filter((part) => part !== "")
      .join("; ");
    return `| \`${name}\` | ${cell(typeText(schema))} | ${cell(about)} |`;
  });
  return `| name | type | |\n|---|---|---|\n${lines.join("\n")}\n`;
}

const cell = (text: string): string => text.replaceAll("|", "\\|").replaceAll("\n", " ");

function typeText(schema: Schema): string {
  if (schema.$ref !== undefined) {
    const name = schema.$ref.split("/").at(-1)!;
    return `[${name}](#${name.toLowerCase()})`;
  }
  const choices = (schema.anyOf ?? schema.oneOf) as readonly Schema[] | undefined;
  if (choices !== undefined) return choices.map(typeText).join(" or ");
  if (schema.const !== undefined) return `\`${JSON.stringify(schema.const)}\``;
  if (schema.enum !== undefined)
    return (schema.enum as unknown[]).map((one) => `\`${JSON.stringify(one)}\``).join(", ");
  if (schema.type === "array") return `list of ${typeText((schema.items as Schema | undefined) ?? {})}`;
  if (schema.type === "object") return objectText(schema);
  return `${schema.type ?? "anything"}${boundsText(schema)}`;
}

function objectText(schema: Schema): string {
  const properties = schema.properties as Record<string, Schema> | undefined;
  if (properties !== undefined)
    return `{ ${Object.entries(properties)
      .map(([name, property]) => `${name}: ${typeText(property)}`)
      .join(", ")} }`;
  const values = schema.additionalProperties as Schema | undefined;
  return `map of text to ${typeText(typeof values === "object" ? values : {})}`;
}

function boundsText({ minimum, exclusiveMinimum, maximum, maxLength, pattern }: Schema): string {
  const least = minimum ?? (exclusiveMinimum === 0 ? "> 0" : exclusiveMinimum);
  const most = maximum === Number.MAX_SAFE_INTEGER ? undefined : maximum;
  const parts = [
    least === undefined || least === Number.MIN_SAFE_INTEGER
      ? ""
      : String(least).startsWith(">")
        ? `${least}`
        : `≥ ${least}`,
    most === undefined ? "" : `≤ ${most}`,
    maxLength === undefined ? "" : `at most ${maxLength} characters`,
    pattern === undefined ? "" : `\`${pattern}\``,
  ].filter((part) => part !== "");
  return parts.length === 0 ? "" : ` (${parts.join(", ")})`;
}
