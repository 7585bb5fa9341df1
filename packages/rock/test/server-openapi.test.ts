import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createApp } from "../src/server/app.ts";
import { AuditLog } from "../src/server/audit.ts";
import { SCOPES } from "../src/server/caller.ts";
import { type OpenApiDocument, type Operation, openApiOf } from "../src/server/openapi.ts";
import { describedApp } from "../src/server/reference.ts";

let directory = "";
let document: OpenApiDocument;
let routes: readonly { readonly methods: string[]; readonly url: string; readonly schema: unknown }[];

const operations = (): { readonly path: string; readonly method: string; readonly operation: Operation }[] =>
  Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
  );

describe("the OpenAPI document", () => {
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "ale-openapi-"));
    const app = await describedApp(directory);
    document = openApiOf(app);
    routes = app.described.filter(({ methods }) => !methods.includes("HEAD") || methods.length > 1);
    await app.close();
  });
  afterAll(() => rmSync(directory, { recursive: true }));

  test("has every route of the native API", () => {
    expect(routes.length).toBeGreaterThan(45);
    for (const { methods, url } of routes)
      for (const method of methods) {
        const path = url.replace(/:(\w+)/g, "{$1}").replace("*", "{path}");
        expect(document.paths[path], `${method} ${path}`).toHaveProperty(method.toLowerCase());
      }
  });

  test("says of every route what it does, what it needs and what it answers", () => {
    for (const { path, method, operation } of operations()) {
      const what = `${method} ${path}`;
      expect(operation.summary, what).toMatch(/^\S.{5,}$/);
      expect(operation.tags, what).toHaveLength(1);
      expect([...SCOPES, "public"], what).toContain(operation["x-scope"]);
      const good = Object.keys(operation.responses).filter((status) => /^[12]/.test(status));
      expect(good, what).toHaveLength(1);
      const named = (operation.parameters ?? []).filter((parameter) => parameter.in === "path");
      const inPath = [...path.matchAll(/\{(\w+)\}/g)].map((match) => match[1]);
      expect(named.map(({ name }) => name).sort(), what).toEqual(inPath.sort());
      if (["post", "put"].includes(method) && operation.requestBody !== undefined)
        expect(Object.keys(operation.requestBody.content), what).toHaveLength(1);
    }
  });

  test("names every operation once, and refers to nothing that it does not have", () => {
    const ids = operations().map(({ operation }) => operation.operationId);
    expect(new Set(ids).size).toBe(ids.length);
    const references = [...JSON.stringify(document).matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g)];
    expect(references.length).toBeGreaterThan(100);
    for (const [, name] of references) expect(document.components.schemas).toHaveProperty(name!);
  });

  test("a route without a scope stops the server from starting", async () => {
    const audit = new AuditLog(join(directory, "audit"));
    const app = createApp({
      service: undefined as never,
      audit,
      auth: { authenticate: () => undefined },
      plugins: [(scope) => void scope.get("/open", { config: {} }, async () => "anybody")],
    });
    await expect(app).rejects.toThrow(/needs a scope/);
  });

  test("a fault of the server is told to its operator, and its caller learns nothing of its inside", async () => {
    const faults: unknown[] = [];
    const app = await createApp({
      service: undefined as never,
      audit: new AuditLog(join(directory, "audit")),
      auth: { authenticate: () => undefined },
      onFault: (route, cause) => faults.push([route, cause]),
      plugins: [
        (scope) =>
          void scope.get("/broken", { config: { scope: "public" } }, async () => {
            throw new TypeError("cannot read /secret/path");
          }),
      ],
    });
    const answer = await app.inject({ method: "GET", url: "/broken" });
    expect(answer.statusCode).toBe(500);
    expect(answer.json()).toMatchObject({ code: "internal" });
    expect(answer.body).not.toContain("secret");
    expect(faults).toEqual([["GET /broken", expect.any(TypeError)]]);
    await app.close();
  });

  test("whoever guesses tokens is told to wait, others are not", async () => {
    const app = await createApp({
      service: undefined as never,
      audit: new AuditLog(join(directory, "audit")),
      auth: { authenticate: () => undefined },
      plugins: [(scope) => void scope.get("/own", { config: { scope: "exec" } }, async () => "own")],
    });
    const guess = (remoteAddress: string) => app.inject({ method: "GET", url: "/own", remoteAddress });
    const statuses: number[] = [];
    for (let index = 0; index < 301; index++) statuses.push((await guess("192.0.2.1")).statusCode);
    expect([statuses[0], statuses[299], statuses[300]]).toEqual([401, 401, 429]);
    expect((await guess("192.0.2.2")).statusCode).toBe(401);
    await app.close();
  });
});
