import { createHash } from "node:crypto";
import { AleError } from "@ale/core";
import { parseReference } from "../image/reference.ts";

/**
 * Images that a tenant made of its own sandboxes. The store of images is the host's and every tenant may run what is in it; these lie in it
 * under names of a host that cannot exist, and only their tenant may use those names.
 */

const HOST = "private.invalid";

const tagOf = (tenant: string): string =>
  `t${createHash("sha256").update(tenant).digest("hex").slice(0, 24)}`;

/** The name in the store of what a tenant calls `name`. Throws an AleError `reference-invalid`. */
export function privateImage(tenant: string, name: string): string {
  const { registry, repository, tag, digest } = parseReference(name);
  if (digest !== undefined)
    throw new AleError("reference-invalid", "an image is committed to a tag, not to a digest", {
      next: "leave out what follows @",
    });
  const host = registry === "docker.io" ? "" : `${registry.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-")}/`;
  return `${HOST}/${tagOf(tenant)}/${host}${repository}:${tag}`;
}

/** Whether a tenant may use, or even see, an image by this name of the store. */
export function mayUseImage(tenant: string, name: string): boolean {
  const lower = name.trim().toLowerCase();
  return !lower.startsWith(`${HOST}/`) || lower.startsWith(`${HOST}/${tagOf(tenant)}/`);
}

/** Throws an AleError `image-missing`, as for an image that never was. */
export function refuseForeignImage(tenant: string, name: string): void {
  if (!mayUseImage(tenant, name))
    throw new AleError("image-missing", `there is no local image called ${name.slice(0, 300)}`, {
      next: "name an image of your own, or one of the host",
    });
}
