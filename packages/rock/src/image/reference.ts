import { AleError } from "@ale/core";
import { type Digest, isDigest } from "./store.ts";

/** Names of images as people write them: `[REGISTRY/]REPOSITORY[:TAG][@sha256:DIGEST]`. */

export interface Reference {
  /** Host and perhaps port, e.g. "localhost:5000"; "docker.io" where none is written. */
  readonly registry: string;
  /** E.g. "library/python". */
  readonly repository: string;
  readonly tag: string;
  readonly digest: Digest | undefined;
}

const REPOSITORY = /^[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
const HOST =
  /^(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?$/;

/** Throws an AleError `reference-invalid`. */
export function parseReference(text: string): Reference {
  const invalid = (why: string): AleError =>
    new AleError("reference-invalid", `${JSON.stringify(text.slice(0, 300))} names no image: ${why}`, {
      next: "write NAME[:TAG], REGISTRY/NAME[:TAG] or NAME@sha256:DIGEST, with a name in lower case",
    });
  if (text.length > 500) throw invalid("it is longer than 500 characters");
  const at = text.indexOf("@");
  const digest = at < 0 ? undefined : text.slice(at + 1);
  if (digest !== undefined && !isDigest(digest)) throw invalid("what follows @ is no sha256 digest");
  const rest = at < 0 ? text : text.slice(0, at);
  const slash = rest.indexOf("/");
  const first = slash < 0 ? "" : rest.slice(0, slash);
  const hasRegistry = first === "localhost" || /[.:A-Z]/.test(first);
  const registry = hasRegistry ? first : "docker.io";
  if (!HOST.test(registry)) throw invalid(`${registry} is no host`);
  const named = hasRegistry ? rest.slice(slash + 1) : rest;
  const colon = named.lastIndexOf(":");
  const tag = colon < 0 ? "latest" : named.slice(colon + 1);
  let repository = colon < 0 ? named : named.slice(0, colon);
  if (!TAG.test(tag)) throw invalid(`${JSON.stringify(tag)} is no tag`);
  if (!REPOSITORY.test(repository))
    throw invalid(
      /[A-Z]/.test(repository) ? "names are in lower case" : `${JSON.stringify(repository)} is no name`,
    );
  if (registry === "docker.io" && !repository.includes("/")) repository = `library/${repository}`;
  return { registry, repository, tag, digest };
}

/** One spelling for all ways to write a name: `docker.io/library/python` is `python:latest`. */
export function canonicalName(text: string): string {
  const { registry, repository, tag, digest } = parseReference(text);
  const host = registry === "docker.io" ? "" : `${registry}/`;
  const name = registry === "docker.io" ? repository.replace(/^library\//, "") : repository;
  return digest === undefined ? `${host}${name}:${tag}` : `${host}${name}@${digest}`;
}
