import type { Instance } from "@ale/core";
import type { Sandbox, SandboxDriver, SandboxSpec } from "@ale/rock";

/**
 * Makes the environment of an instance: everything that it promises to the agent, and nothing of its verifier. The caller owns the
 * sandbox and destroys it. Fails as the driver does.
 */
export function openEnvironment(
  driver: SandboxDriver,
  instance: Instance,
  signal?: AbortSignal,
): Promise<Sandbox> {
  return driver.create(specOf(instance), signal);
}

/** What an instance asks of its sandbox. */
export const specOf = (instance: Instance): SandboxSpec => ({
  image: instance.image,
  files: instance.files,
  limits: instance.limits,
  network: instance.network,
  workdir: instance.workdir,
  labels: { instance: instance.id, family: instance.family, split: instance.split },
});
