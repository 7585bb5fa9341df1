import { AleError } from "@ale/core";
import { z } from "zod";
import type { AppPlugin } from "../../server/app.ts";
import { type CompatOptions, scopeOf, tenantOf } from "../caller.ts";
import { type EnvHubStore, Registration } from "./store.ts";

/** ROCK's EnvHub: five routes over the table of named environments. Errors are real HTTP errors with `{ detail }`. */

const Name = z.object({ env_name: z.string().min(1) });
const Filter = z.object({ owner: z.string().nullish(), tags: z.array(z.string()).nullish() });

export function envHubApi(store: EnvHubStore, options: CompatOptions = {}): AppPlugin {
  return (app) => {
    const read = { config: { scope: scopeOf(options, "sandbox:read") }, schema: { hide: true } } as const;
    const write = { config: { scope: scopeOf(options, "sandbox:write") }, schema: { hide: true } } as const;
    app.get("/health", { config: { scope: "public" }, schema: { hide: true } }, async () => ({
      status: "ok",
    }));
    app.post("/env/register", write, async (request) =>
      store.register(tenantOf(options, request), parse(Registration, request.body)),
    );
    app.post("/env/get", read, async (request, reply) => {
      const { env_name: name } = parse(Name, request.body);
      const found = store.get(tenantOf(options, request), name);
      return found ?? reply.code(404).send({ detail: `Environment ${name} not found` });
    });
    app.post("/env/list", read, async (request) => {
      const { owner, tags } = parse(Filter, request.body ?? {});
      const filter = { ...(owner ? { owner } : {}), ...(tags ? { tags } : {}) };
      return { envs: store.list(tenantOf(options, request), filter) };
    });
    app.post("/env/delete", write, async (request, reply) => {
      const { env_name: name } = parse(Name, request.body);
      if (store.delete(tenantOf(options, request), name)) return reply.type("application/json").send("true");
      return reply.code(404).send({ detail: `Environment ${name} not found or already deleted` });
    });
  };
}

function parse<Schema extends z.ZodType>(schema: Schema, body: unknown): z.infer<Schema> {
  const parsed = schema.safeParse(body);
  if (parsed.success) return parsed.data;
  const text = parsed.error.issues.map((issue) => `body.${issue.path.join(".")}: ${issue.message}`);
  throw new AleError("request-invalid", text.join("; "));
}
