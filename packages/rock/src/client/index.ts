export type { ExecBody, SandboxCreate, SandboxView } from "../wire/schemas.ts";
