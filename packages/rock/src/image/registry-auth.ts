import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { AleError } from "@ale/core";
import { z } from "zod";

/** Who one is for a registry: given, or read from the file that `docker login` and `podman login` write. */

export interface Credentials {
  readonly username: string;
  readonly password: string;
}

export interface AuthOptions {
  readonly auth?: Credentials;
  /** Of a docker config.json; null to read none. Default: $DOCKER_CONFIG/config.json, else ~/.docker/config.json. */
  readonly dockerConfig?: string | null;
}

export interface FoundCredentials {
  readonly credentials: Credentials | undefined;
  /** Why credentials that the file speaks of cannot be used. */
  readonly obstacle: string | undefined;
}

const DockerConfig = z.looseObject({
  auths: z
    .record(
      z.string(),
      z.looseObject({
        auth: z.string().optional(),
        username: z.string().optional(),
        password: z.string().optional(),
        identitytoken: z.string().optional(),
      }),
    )
    .optional(),
  credsStore: z.string().optional(),
  credHelpers: z.record(z.string(), z.string()).optional(),
});

/** Throws an AleError for a file that cannot be read. */
export function findCredentials(registry: string, options: AuthOptions): FoundCredentials {
  if (options.auth !== undefined) return { credentials: options.auth, obstacle: undefined };
  if (options.dockerConfig === null) return { credentials: undefined, obstacle: undefined };
  const path =
    options.dockerConfig ?? join(process.env.DOCKER_CONFIG ?? join(homedir(), ".docker"), "config.json");
  if (!existsSync(path)) return { credentials: undefined, obstacle: undefined };
  const config = readConfig(path);
  const names = [registry, `https://${registry}`, `https://${registry}/v1/`, `https://${registry}/v2/`];
  if (registry === "docker.io") names.push("https://index.docker.io/v1/", "index.docker.io");
  const entry = names.map((name) => config.auths?.[name]).find((one) => one !== undefined);
  const decoded = decode(entry?.auth);
  if (decoded !== undefined) return { credentials: decoded, obstacle: undefined };
  if (entry?.username !== undefined && entry.password !== undefined)
    return { credentials: { username: entry.username, password: entry.password }, obstacle: undefined };
  const helper = names.map((name) => config.credHelpers?.[name]).find((one) => one !== undefined);
  const keeper = helper ?? config.credsStore;
  const obstacle = entry?.identitytoken
    ? `${path} holds only an identity token for ${registry}, which is not supported`
    : keeper !== undefined
      ? `${path} keeps credentials in the helper ${JSON.stringify(keeper)}, which is not asked`
      : undefined;
  return { credentials: undefined, obstacle };
}

function readConfig(path: string): z.infer<typeof DockerConfig> {
  try {
    return DockerConfig.parse(JSON.parse(readFileSync(path, "utf8")));
  } catch (cause) {
    throw new AleError("docker-config-invalid", `${path} cannot be read as a docker configuration`, {
      next: "repair or remove the file, or give the credentials with the command",
      cause,
    });
  }
}

function decode(auth: string | undefined): Credentials | undefined {
  const text = Buffer.from(auth ?? "", "base64").toString("utf8");
  const colon = text.indexOf(":");
  return colon > 0 ? { username: text.slice(0, colon), password: text.slice(colon + 1) } : undefined;
}

export interface Challenge {
  readonly scheme: "basic" | "bearer" | "other";
  readonly parameters: Readonly<Record<string, string>>;
}

/** Of a WWW-Authenticate header. */
export function parseChallenge(header: string | null): Challenge {
  const match = /^\s*([A-Za-z]+)\s*(.*)$/s.exec(header ?? "");
  const name = (match?.[1] ?? "").toLowerCase();
  const parameters: Record<string, string> = {};
  for (const [, key, quoted, bare] of (match?.[2] ?? "").matchAll(
    /([A-Za-z_]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))/g,
  ))
    parameters[key!.toLowerCase()] = quoted?.replace(/\\(.)/g, "$1") ?? bare ?? "";
  return { scheme: name === "basic" || name === "bearer" ? name : "other", parameters };
}

export const basicHeader = ({ username, password }: Credentials): string =>
  `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;
