import type { AppPlugin } from "../../server/app.ts";
import { isLayered } from "../../snapshot/commit.ts";
import { ociImages } from "../oci-images.ts";
import { CommitJobs } from "./commit.ts";
import { commitRoutes } from "./commit-routes.ts";
import type { RockContext, RockOptions } from "./context.ts";
import { execRoutes } from "./exec-routes.ts";
import { fileRoutes } from "./file-routes.ts";
import { lifecycleRoutes } from "./lifecycle-routes.ts";
import { listRoutes, quietRoutes } from "./list-routes.ts";
import { proxyRoutes } from "./proxy-routes.ts";
import { RockSessions } from "./sessions.ts";

/** ROCK's sandbox API: its admin and its proxy role at one address, over the same sandboxes as the native API. */
export function rockApi(options: RockOptions = {}): AppPlugin {
  return async (app, { service, closing }) => {
    const { driver } = service;
    const images = options.images ?? (isLayered(driver) ? ociImages(driver) : undefined);
    const context: RockContext = {
      service,
      options: images === undefined ? options : { ...options, images },
      sessions: new RockSessions(service),
      commits: new CommitJobs(service, images, closing),
    };
    lifecycleRoutes(app, context);
    listRoutes(app, context);
    quietRoutes(app, context);
    execRoutes(app, context);
    commitRoutes(app, context);
    await fileRoutes(app, context);
    // In a context of its own: it takes every kind of body unread.
    await app.register(async (scope) => proxyRoutes(scope as never, context));
    app.get("/", { config: { scope: "public" }, schema: { hide: true } }, async () => ({
      message: "hello, ROCK!",
    }));
  };
}
