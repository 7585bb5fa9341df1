/** How user and group numbers of a sandbox map to those of the host. The same map serves both kinds. */
export interface IdMap {
  /** Throws a RangeError for a number that the sandbox does not have. */
  toHost(id: number): number;
  /** 65534 (nobody) for a number of the host that the sandbox cannot see. */
  toSandbox(id: number): number;
}

export const IDENTITY: IdMap = { toHost: (id) => id, toSandbox: (id) => id };

const OVERFLOW_ID = 65_534;

/** `size` numbers from 0 inside, from `base` outside. */
export function shifted(base: number, size: number): IdMap {
  return {
    toHost: (id) => {
      if (!Number.isInteger(id) || id < 0 || id >= size)
        throw new RangeError(`the sandbox has no user or group ${id}`);
      return base + id;
    },
    toSandbox: (id) => (id >= base && id < base + size ? id - base : OVERFLOW_ID),
  };
}
