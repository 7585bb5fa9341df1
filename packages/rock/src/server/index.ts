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
export { DEFAULT_QUOTA, type HostLimits, hostLimits, type Quota, type Usage } from "./quota.ts";
export type { Phase, Phases, SandboxRecord, SandboxState, Transition } from "./record.ts";
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
export { type NewToken, type StoredToken, TokenStore } from "./token-store.ts";
