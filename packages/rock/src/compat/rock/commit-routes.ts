import type { App } from "../../server/app.ts";
import type { RockContext } from "./context.ts";
import { Commit } from "./requests.ts";
import { pathRoute, route } from "./route.ts";

/** ROCK's two routes of a commit: begin, and how far it is. */
export function commitRoutes(app: App, context: RockContext): void {
  const { commits } = context;
  route(
    app,
    context,
    { method: "POST", path: "/commit", scope: "image", failure: "commit sandbox failed", schema: Commit },
    ({ input, tenant }) => commits.begin(tenant, input),
  );
  pathRoute(
    app,
    context,
    {
      method: "GET",
      path: "/commit/:sandboxId",
      scope: "sandbox:read",
      failure: "get commit status failed",
    },
    async ({ input, tenant }) => commits.status(tenant, input.sandbox_id),
  );
}
