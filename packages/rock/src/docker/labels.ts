import { hostname } from "node:os";
import { isAlive, type Owner, ownerName, parseOwnerName, self } from "../host/owner.ts";

/** What is written on containers, images and volumes of the engine, so that another process knows whose they are. */

export const LABEL = {
  /** "sandbox" or "snapshot". */
  kind: "ale.rock.kind",
  id: "ale.rock.id",
  /** Host name, then what `ownerName` makes of the process. */
  owner: "ale.rock.owner",
  image: "ale.rock.image",
  createdAt: "ale.rock.created-at-ms",
  /** JSON: the spec's own labels. */
  labels: "ale.rock.labels",
  /** What is known of a snapshot, and the configuration of its image: JSON in base64. */
  snapshot: "ale.rock.snapshot",
  config: "ale.rock.config",
  /** Whose snapshot it is: a hash of the driver's home. */
  space: "ale.rock.space",
} as const;

export const ownerLabel = (): string => `${hostname()} ${ownerName(self())}-`;

/** `foreign`: of another host, another boot or another pid namespace's host; whether it lives cannot be seen from here. */
export type OwnerState = "alive" | "dead" | "foreign";

export function ownerState(label: string | undefined): OwnerState {
  const [host, name] = (label ?? "").split(" ");
  const owner = parseOwnerName(name ?? "");
  if (owner === undefined || host !== hostname() || !sameBoot(owner)) return "foreign";
  return isAlive(owner) ? "alive" : "dead";
}

const sameBoot = (owner: Owner): boolean => owner.bootId === self().bootId;
