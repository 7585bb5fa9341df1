import type { App, AppPlugin } from "./app.ts";
import type { Audit } from "./audit.ts";
import type { ImageShelf } from "./images.ts";
import type { Metrics } from "./metrics.ts";
import { execRoutes } from "./routes/exec.ts";
import { fileChangeRoutes } from "./routes/file-changes.ts";
import { fileRoutes } from "./routes/files.ts";
import { imageRoutes } from "./routes/images.ts";
import { portRoutes } from "./routes/ports.ts";
import { sandboxRoutes } from "./routes/sandboxes.ts";
import { sessionRoutes } from "./routes/sessions.ts";
import { snapshotRoutes } from "./routes/snapshots.ts";
import { systemRoutes, tokenRoutes } from "./routes/system.ts";
import { telemetryRoutes } from "./routes/telemetry.ts";
import type { TokenStore } from "./token-store.ts";

/** The native API, under /v1. */

export interface NativeParts {
  readonly audit: Audit;
  readonly metrics: Metrics;
  readonly version: string;
  readonly tokens?: TokenStore;
  readonly images?: ImageShelf;
}

const STREAMED = ["application/octet-stream", "application/x-tar", "application/gzip"];

export const nativeApi =
  (parts: NativeParts): AppPlugin =>
  async (root, context) => {
    await root.register(
      async (scope) => {
        const app = scope as unknown as App;
        app.addContentTypeParser(STREAMED, (_request, payload, done) => done(null, payload));
        sandboxRoutes(app, context);
        execRoutes(app, context);
        sessionRoutes(app, context);
        fileRoutes(app, context);
        fileChangeRoutes(app, context);
        snapshotRoutes(app, context);
        telemetryRoutes(app, context);
        systemRoutes(app, context, parts);
        if (parts.tokens !== undefined) tokenRoutes(app, parts.tokens);
        if (parts.images !== undefined) imageRoutes(app, context, parts.images);
        await app.register(async (proxy) => {
          // Bodies pass through as they come, whatever they are.
          proxy.removeAllContentTypeParsers();
          proxy.addContentTypeParser("*", (_request, payload, done) => done(null, payload));
          portRoutes(proxy as unknown as App, context);
        });
      },
      { prefix: "/v1" },
    );
  };
