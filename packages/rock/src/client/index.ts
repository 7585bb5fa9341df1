export { limitsOf as budgetLimitsOf } from "../egress/account.ts";
export { BUDGET_NAMES, policyText } from "../egress/policy-text.ts";
export { LEAST_DISK_BYTES, LEAST_MEMORY_BYTES, MOST_CPUS, MOST_PIDS, SANDBOX_ID } from "../wire/bounds.ts";
export { parseByteSize } from "../wire/byte-size.ts";
export type { ExecBody, NetworkView, SandboxCreate, SandboxView } from "../wire/schemas.ts";
export {
  connectLocal,
  connectRock,
  type ListOptions,
  type RemoteImage,
  type RemoteImages,
  type RemoteSandboxes,
  type RockClient,
} from "./connect.ts";
export { RemoteDriver } from "./remote-driver.ts";
export { RemoteSandbox } from "./remote-sandbox.ts";
export type { Call, Query, TransportOptions } from "./transport.ts";
