import type { Instance } from "@ale/core";
import type { Sandbox, SandboxDriver } from "@ale/rock";

/**
 * Makes the environment of an instance: everything that it promises to the agent, and nothing of its verifier. The caller owns the
 * sandbox and destroys it. Fails as the driver does.
 */
export function openEnvironment(
  driver: SandboxDriver,
  instance: Instance,
  signal?: AbortSignal,
): Promise<Sandbox> {
  return driver.create(
    {
      image: instance.image,
      files: instance.files,
      limits: instance.limits,
      network: instance.network,
      workdir: instance.workdir,
      labels: { instance: instance.id, family: instance.family, split: instance.split },
    },
    signal,
  );
}
