import { type NetworkChange, parseNetwork } from "@ale/core";
import { parse } from "tldts";
import { isSpecial } from "./egress-policy.ts";

/**
 * Whether an allowlist is one: a rule for `*.com` or `0.0.0.0/1` is the open network under another name, and that is to be had under its own
 * name alone. Pure.
 */

/** The shortest prefix of a network in public space. */
export const SHORTEST_PREFIX = 16;
/** Public addresses that the rules of one policy may name together: as many as sixteen of the widest networks. */
export const MOST_ADDRESSES = 2 ** 20;

/** What is too wide, and why; undefined where nothing is. */
export function tooWide(policy: NetworkChange): { readonly rule: string; readonly why: string } | undefined {
  if (policy.mode !== "allowlist") return undefined;
  for (const { name } of policy.hosts) {
    const base = name.startsWith("*.") ? name.slice(2) : undefined;
    if (base !== undefined && isPublicSuffix(base))
      return { rule: name, why: `anybody can have a name below ${base}` };
  }
  let addresses = 0;
  for (const { network: rule } of policy.addresses) {
    const network = parseNetwork(rule)!;
    // Private space is had by naming it, which is somebody else's to allow; IPv6 does not leave.
    if (network.v6 || isSpecial(rule)) continue;
    const size = 2 ** (32 - network.prefix);
    addresses += size;
    if (network.prefix < SHORTEST_PREFIX)
      return { rule, why: `${size} addresses are more than a /${SHORTEST_PREFIX} has` };
    if (addresses > MOST_ADDRESSES)
      return {
        rule,
        why: `with it the rules name ${addresses} addresses, and ${MOST_ADDRESSES} are the most`,
      };
  }
  return undefined;
}

/** With the names that companies let to others (`github.io`), and every last label, known or not. */
function isPublicSuffix(name: string): boolean {
  const { publicSuffix } = parse(name, { allowPrivateDomains: true, validateHostname: false });
  return publicSuffix === name;
}
