export {
  type App,
  type AppContext,
  type AppLimits,
  type AppOptions,
  type AppPlugin,
  createApp,
} from "./app.ts";
export { type Audit, type AuditEntry, AuditLog } from "./audit.ts";
export { type Authenticator, type Caller, SCOPES, Scope } from "./caller.ts";
export type { ImageShelf, StoredImage } from "./images.ts";
export { findServer, type Served, serveFile } from "./lease.ts";
export { type OpenApiDocument, openApiOf } from "./openapi.ts";
export { DEFAULT_QUOTA, type HostLimits, hostLimits, type Quota, type Usage } from "./quota.ts";
export type { Phase, Phases, SandboxRecord, SandboxState, Transition } from "./record.ts";
export { describedApp, referenceText } from "./reference.ts";
export { problems } from "./routes/responses.ts";
export {
  DEFAULT_PORT,
  type RockServer,
  type ServeOptions,
  serveRock,
  tokensFile,
} from "./serve.ts";
export {
  type CreateRequest,
  type ListFilter,
  SandboxService,
  type SandboxServiceOptions,
} from "./service.ts";
export { stopServer } from "./stop.ts";
export { gone, type ServerEvent, sendEvents } from "./streams.ts";
export { type NewToken, NO_TOKEN, type StoredToken, TokenStore } from "./token-store.ts";
