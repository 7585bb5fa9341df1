import { quarantine, type Sandbox, type SandboxDriver } from "@ale/rock";

/** Keeps an episode's sandbox as evidence, and says in words what became of it. */

export interface Evidence {
  readonly detail: string;
  readonly snapshot?: string;
}

/**
 * `onFrozen` is called when nothing in the sandbox runs any more. Never throws for what the sandbox cannot do: what could not be kept is
 * said in `detail`.
 */
export async function keepAsEvidence(
  driver: SandboxDriver,
  sandbox: Sandbox,
  why: { readonly episode: string; readonly rule: string },
  onFrozen: () => void,
): Promise<Evidence> {
  const { episode, rule } = why;
  const kept = await quarantine(driver, sandbox, {
    id: episode,
    labels: { quarantine: rule, episode },
    onFrozen,
  });
  const { notFrozen, snapshot, image, failures } = kept;
  const detail = [
    notFrozen === undefined ? "the sandbox is frozen" : `the sandbox could not be frozen (${notFrozen})`,
    ...(image === undefined ? [] : [`its files are kept as the image ${image}`]),
    ...(image === undefined && snapshot !== undefined ? ["its files are kept as a snapshot"] : []),
    ...failures,
  ].join("; ");
  return { detail, ...(snapshot === undefined ? {} : { snapshot }) };
}
