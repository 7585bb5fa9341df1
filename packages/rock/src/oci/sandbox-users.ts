import type { IdMap } from "../host/idmap.ts";

/** Whom a sandbox's users are on the host. */
export interface SandboxUsers {
  /** The sandbox's 0 on the host. */
  readonly first: number;
  readonly size: number;
  readonly ids: IdMap;
  /**
   * Descriptor of the namespace that mounts of the sandbox's layers are mapped by. It is not the sandbox's own: it also knows the host's
   * root, as the first number after the sandbox's last, without which the driver could not make a file in the sandbox.
   */
  readonly mountNamespace: number;
}
