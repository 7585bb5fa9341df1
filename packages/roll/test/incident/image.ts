import { bootstrapImage, defaultHome } from "@ale/rock";

/** A Debian with what an agent would use against its sandbox, and with the server that it would tunnel to. Made once. */
export const ATTACK_IMAGE = "ale/test-attacks";
const PACKAGES = ["curl", "mawk", "openssh-client", "openssh-server", "openssl", "procps", "python3"];

export async function ensureAttackImage(): Promise<void> {
  await bootstrapImage(defaultHome(), { name: ATTACK_IMAGE, packages: PACKAGES, agent: true });
}
