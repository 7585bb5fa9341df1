import { AleError, type NetworkChange, type NetworkPolicy } from "@ale/core";
import { specialIn, wantsModelGateway } from "../egress/egress-policy.ts";
import { ownAddresses } from "../egress/upstream.ts";
import { refuseTooWide, withoutModelGateway } from "../port/network.ts";

/** Which network policies a server's tenants may ask for. What leaves a sandbox leaves from the server's own host, as the operator's. */
export interface NetworkBounds {
  readonly modes: readonly NetworkPolicy["mode"][];
  /** Whether they may name private networks, clouds' metadata and the host itself. */
  readonly privateAddresses: boolean;
  /** Whether there is a model gateway. Default: yes. */
  readonly modelGateway?: boolean;
}

export const DEFAULT_BOUNDS: NetworkBounds = {
  modes: ["none", "allowlist", "gateway-only"],
  privateAddresses: false,
};

/** Throws an AleError `network-refused`, `network-too-wide` or `network-unsupported`, before anything is begun. */
export function refuseBeyond(bounds: NetworkBounds, policy: NetworkChange): void {
  if (!bounds.modes.includes(policy.mode)) {
    const option = policy.mode === "open" ? "--allow-open-network" : "`network.modes` of the server";
    throw refused(`the network mode ${JSON.stringify(policy.mode)} for its tenants`, option);
  }
  refuseTooWide(policy);
  if (bounds.modelGateway === false && wantsModelGateway(policy)) throw withoutModelGateway(policy);
  const special = bounds.privateAddresses ? undefined : specialIn(policy, ownAddresses());
  if (special !== undefined)
    throw refused(`${special}, which leads into its own network`, "--allow-private-addresses");
}

const refused = (what: string, option: string): AleError =>
  new AleError("network-refused", `this server does not allow ${what}`, {
    next: `ask its operator to start it with ${option}, or ask for less`,
  });
