import { AleError, Limits, NetworkPolicy } from "@ale/core";
import type { SandboxDriver } from "../port/driver.ts";
import type { SandboxSpec } from "../port/sandbox.ts";
import type { Snapshot } from "../port/snapshot.ts";

/**
 * Whose a snapshot or a sandbox is stands in its labels, which the driver keeps with its files: so nothing can be lost between the files
 * and a record of the server's own. Labels that begin with `ale.` are the server's; callers neither set nor see them.
 */

const TENANT_LABEL = "ale.tenant";
/** Limits of the sandbox that a snapshot was taken of: what its forks get where nothing else is asked for. */
const LIMITS_LABEL = "ale.limits";
/** Its network policy, for the same. */
const NETWORK_LABEL = "ale.network";

export type Labels = Readonly<Record<string, string>>;

export const withTenant = (tenant: string, labels: Labels = {}): Labels => {
  const reserved = Object.keys(labels).find((key) => key.startsWith("ale."));
  if (reserved !== undefined)
    throw new AleError("label-reserved", `label ${reserved}: names that begin with "ale." are reserved`, {
      next: "choose another name",
    });
  return { ...labels, [TENANT_LABEL]: tenant };
};

type Inherited = Pick<SandboxSpec, "limits" | "network">;

export const labelsForSnapshot = (
  tenant: string,
  { limits, network }: Inherited,
  labels?: Labels,
): Labels => ({
  ...withTenant(tenant, labels),
  [LIMITS_LABEL]: JSON.stringify(limits),
  [NETWORK_LABEL]: JSON.stringify(network),
});

export async function inheritedBy(driver: SandboxDriver, snapshot: string): Promise<Inherited> {
  const labels = (await driver.snapshots.get(snapshot))?.labels ?? {};
  return {
    limits: Limits.parse(JSON.parse(labels[LIMITS_LABEL] ?? "{}")),
    network: NetworkPolicy.parse(JSON.parse(labels[NETWORK_LABEL] ?? '{ "mode": "none" }')),
  };
}

export const tenantOf = (labels: Labels | undefined): string | undefined => labels?.[TENANT_LABEL];

export const ownLabels = (labels: Labels | undefined): Labels =>
  Object.fromEntries(Object.entries(labels ?? {}).filter(([key]) => !key.startsWith("ale.")));

const shown = (snapshot: Snapshot): Snapshot => ({ ...snapshot, labels: ownLabels(snapshot.labels) });

export async function snapshotsOf(driver: SandboxDriver, tenant: string): Promise<readonly Snapshot[]> {
  const all = await driver.snapshots.list();
  return all.filter((snapshot) => tenantOf(snapshot.labels) === tenant).map(shown);
}

/** Throws an AleError `snapshot-unknown`, also where it is another tenant's. */
export async function snapshotOf(driver: SandboxDriver, tenant: string, id: string): Promise<Snapshot> {
  const snapshot = await driver.snapshots.get(id);
  if (snapshot === undefined || tenantOf(snapshot.labels) !== tenant)
    throw new AleError("snapshot-unknown", `there is no snapshot ${id}`, {
      next: "list the snapshots",
    });
  return shown(snapshot);
}
