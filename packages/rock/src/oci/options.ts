import type { IdRangeOptions } from "../host/id-ranges.ts";
import type { RuntimeName } from "../host/runtime.ts";
import type { EgressOptions } from "./network.ts";

export interface OciDriverOptions {
  /** Where images and the state of sandboxes lie. Default: $ALE_HOME, else ~/.ale. */
  readonly home?: string;
  /** Sandboxes and snapshots are kept under this name until they are destroyed. Only one process at a time can open it. Default: they end with the driver. */
  readonly durable?: string;
  /** Sandboxes started at the same time. Default: the number of processors. */
  readonly concurrency?: number;
  /** Default: the first of crun and runc that runs here. */
  readonly runtime?: RuntimeName;
  /** Whether the kernel logs system calls that a sandbox's filter refuses. Default: `log`. */
  readonly deniedCalls?: "log" | "off";
  /**
   * Most bytes that the layers of snapshots may take together, those in memory (of sandboxes whose disk fits into half of their memory)
   * among them; no sandbox's memory limit counts them. Default: half of the host's memory.
   */
  readonly snapshotBytes?: number;
  /** `auto`: sandboxes have users of their own where the host can do that. `off`: root in a sandbox is root of the host, kept in by its other walls. */
  readonly userns?: "auto" | "off";
  /**
   * Limits that need not hold. Where the host cannot enforce one, as for an ordinary user without control groups, no sandbox is made unless
   * the limit is named here.
   */
  readonly unenforced?: readonly ("memory" | "cpu")[];
  /**
   * Only for building images, and only where the user spelled it out: its sandboxes share this machine's network, with all that this
   * machine reaches, its own services and abstract sockets included. Default: `none`.
   */
  readonly buildNetwork?: "none" | "host";
  /** How sandboxes whose network policy is not `none` reach the outside. */
  readonly egress?: EgressOptions;
  /** Numbers of the host that sandboxes' users may have. Default: 251,658,240 from 1,879,048,192 on. */
  readonly idRange?: IdRangeOptions;
  /** Snapshots above more layers than this are merged into one, in the background. Default: 30. */
  readonly longestChain?: number;
}
