import { isAnother, policyOf } from "@ale/bench";
import { AleError, type Event, type Instance, PHASES, type Phase, telemetryNow } from "@ale/core";
import { policyText, type Sandbox, type SandboxDriver } from "@ale/rock";

/**
 * The network of an episode, phase by phase: while the environment is made, while the agent works, while the verifier runs. A driver that
 * cannot do all of them is refused before anything begins, because a task that runs with another network is another task.
 */

/** Throws an AleError `network-unsupported`. */
export async function refusePhases(driver: SandboxDriver, instance: Instance): Promise<void> {
  const policies = PHASES.map((phase) => policyOf(instance, phase));
  if (policies.every((policy) => policy.mode === "none")) return;
  const { network } = await driver.capabilities();
  const missing = policies.find(({ mode }) => !network.includes(mode));
  if (missing === undefined) return;
  throw new AleError(
    "network-unsupported",
    `${instance.id} needs the network mode "${missing.mode}", and this driver has: ${network.join(", ")}`,
    { next: "run it where `ale doctor` lists that mode" },
  );
}

/** Goes from one phase to the next. Null where the policy stays as it is, otherwise the event that says what it is now. */
export async function enterPhase(
  sandbox: Sandbox,
  instance: Instance,
  change: { readonly from: Phase; readonly to: Phase; readonly chunk: number | null },
  signal: AbortSignal,
): Promise<Event | null> {
  const policy = policyOf(instance, change.to);
  if (!isAnother(policy, policyOf(instance, change.from))) return null;
  await sandbox.setNetwork(policy, { endOpen: true }, signal);
  return {
    type: "telemetry",
    chunk: change.chunk,
    record: {
      at: telemetryNow(),
      kind: "policy.change",
      source: "tool",
      sandbox: sandbox.id,
      tool: { name: `network for ${change.to}`, command: policyText(policy) },
    },
  };
}
