import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { AleError } from "@ale/core";
import { type CgroupHost, groupIds } from "../host/cgroup.ts";
import { isSandboxId, listDurableSpaces, listSpaces, places } from "./state.ts";

/** Names of sandboxes. They name control groups and directories too, so they are unique on a host. */

export const freshSandboxId = (): string => `sb-${Date.now().toString(36)}${randomBytes(5).toString("hex")}`;

/** Throws an AleError: `id-invalid`, or `id-taken` where any sandbox of this home or host has it, also a stopped one. */
export function claimId(id: string, home: string, cgroups: CgroupHost): string {
  if (!isSandboxId(id))
    throw new AleError("id-invalid", `${JSON.stringify(id.slice(0, 80))} cannot be the id of a sandbox`, {
      next: "use 1 to 63 lower-case letters, digits and hyphens, beginning with a letter or digit",
    });
  const spaces = [...listSpaces(home).map((space) => space.directory), ...listDurableSpaces(home)];
  const onDisk = spaces.some((space) => existsSync(places(space, id).directory));
  if (onDisk || groupIds(cgroups).includes(id))
    throw new AleError("id-taken", `there is a sandbox ${id} already`, {
      next: "choose another id, or destroy that sandbox first",
    });
  return id;
}
