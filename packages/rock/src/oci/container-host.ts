import type { ReadWatch } from "../files/read-watch.ts";
import type { CgroupHost } from "../host/cgroup.ts";
import type { BundleHost } from "./bundle.ts";
import type { LayerStore } from "./layer-store.ts";
import type { ShellState } from "./shell-state.ts";
import type { SandboxState } from "./state.ts";
import type { UserNamespaces } from "./user-namespaces.ts";

/** What a container stands on, and how it is started and restarted. */

export interface Host extends BundleHost {
  /** The driver's directory. */
  readonly space: string;
  /** Files are kept unless they are destroyed. */
  readonly durable: boolean;
  readonly cgroups: CgroupHost;
  readonly reads: ReadWatch;
  readonly layers: LayerStore;
  /** Undefined: sandboxes share the host's users. */
  readonly users: UserNamespaces | undefined;
}

/** A sandbox's shells, which are carried over a restart. */
export interface Shells {
  capture(): Promise<readonly ShellState[]>;
  /** Before anybody else is heard. */
  resume(states: readonly ShellState[]): void;
}

export interface StartOptions {
  /** It has no writable layer yet. */
  readonly fresh: boolean;
  /** Write the spec's files. */
  readonly plants: boolean;
  /** It is not yet anybody's: until `handOver` its time does not count, and the next owner of a durable driver removes it. */
  readonly waits?: boolean;
}

export interface Restart {
  /** Before anything is ended. The sandbox answers, but only to requests that do not wait for the restart. */
  readonly prepare: () => Promise<void>;
  /** When nothing uses the layers. The writable one of the new state must be there by then. */
  readonly change: () => Promise<Pick<SandboxState, "lower" | "layer" | "snapshot">>;
  /** When it runs again, before anybody else is heard. */
  readonly resume: () => void;
}
