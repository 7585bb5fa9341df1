import { canonicalJson, type Instance, type NetworkPolicy, type Phase, policyAfter } from "@ale/core";
import type { Sandbox, SandboxDriver, SandboxSpec } from "@ale/rock";
import { type OnInstall, runInstall } from "./install.ts";

/** The environment of an instance: everything that it promises to the agent, and nothing of its verifier. */

/** As it is for the agent, installed. The caller owns the sandbox and destroys it. Fails as the driver and `runInstall` do. */
export async function openEnvironment(
  driver: SandboxDriver,
  instance: Instance,
  signal?: AbortSignal,
): Promise<Sandbox> {
  const sandbox = await driver.create(specOf(instance), signal);
  return installed(sandbox, instance, undefined, signal);
}

/** A sandbox of `specOf` as the agent is to find it. Where that fails, it is destroyed. */
export async function installed(
  sandbox: Sandbox,
  instance: Instance,
  onStep?: OnInstall,
  signal?: AbortSignal,
): Promise<Sandbox> {
  try {
    await runInstall(sandbox, instance, onStep, signal);
    if (isAnother(policyOf(instance, "install"), policyOf(instance, "agent")))
      await sandbox.setNetwork(policyOf(instance, "agent"), { endOpen: true }, signal);
    return sandbox;
  } catch (error) {
    await sandbox.destroy();
    throw error;
  }
}

/** What an instance asks of its sandbox, which begins in the install phase. */
export const specOf = (instance: Instance): SandboxSpec => ({
  image: instance.image,
  files: instance.files,
  limits: instance.limits,
  network: policyOf(instance, "install"),
  workdir: instance.workdir,
  labels: { instance: instance.id, family: instance.family, split: instance.split },
});

/** Budgets that a phase does not name are the agent's. */
export const policyOf = ({ network, networkPhases }: Instance, phase: Phase): NetworkPolicy =>
  policyAfter(phase === "agent" ? undefined : networkPhases?.[phase], network);

export const isAnother = (a: NetworkPolicy, b: NetworkPolicy): boolean =>
  canonicalJson(a) !== canonicalJson(b);
