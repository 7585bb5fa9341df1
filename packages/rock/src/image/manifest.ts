import { AleError } from "@ale/core";
import { z } from "zod";
import type { ImageConfig } from "./local-image.ts";
import { isDigest } from "./store.ts";

/** Manifests and configurations of images, in the two dialects that registries speak. Fields that nobody here knows survive. */

export const MEDIA = {
  ociIndex: "application/vnd.oci.image.index.v1+json",
  ociManifest: "application/vnd.oci.image.manifest.v1+json",
  ociConfig: "application/vnd.oci.image.config.v1+json",
  ociTar: "application/vnd.oci.image.layer.v1.tar",
  ociGzip: "application/vnd.oci.image.layer.v1.tar+gzip",
  ociZstd: "application/vnd.oci.image.layer.v1.tar+zstd",
  dockerGzip: "application/vnd.docker.image.rootfs.diff.tar.gzip",
  dockerList: "application/vnd.docker.distribution.manifest.list.v2+json",
  dockerManifest: "application/vnd.docker.distribution.manifest.v2+json",
} as const;

export type Compression = "none" | "gzip" | "zstd";

const LAYER_TYPES: Readonly<Record<string, Compression>> = {
  [MEDIA.ociTar]: "none",
  [MEDIA.ociGzip]: "gzip",
  [MEDIA.ociZstd]: "zstd",
  "application/vnd.docker.image.rootfs.diff.tar": "none",
  "application/vnd.docker.image.rootfs.diff.tar.gzip": "gzip",
  "application/vnd.docker.image.rootfs.diff.tar.zstd": "zstd",
};

/** Throws an AleError `media-unsupported`. */
export function compressionOf(mediaType: string): Compression {
  const known = LAYER_TYPES[mediaType];
  if (known === undefined)
    throw new AleError("media-unsupported", `layers of type ${mediaType} cannot be unpacked`, {
      next: "use an image whose layers are tar, tar+gzip or tar+zstd (not an artefact, not an encrypted or foreign layer)",
    });
  return known;
}

const Digest = z.string().refine(isDigest, "no sha256 digest");

export const Descriptor = z.looseObject({
  mediaType: z.string(),
  digest: Digest,
  size: z.number().int().nonnegative(),
});
export type Descriptor = z.infer<typeof Descriptor>;

export const Manifest = z.looseObject({
  schemaVersion: z.literal(2),
  mediaType: z.string().optional(),
  config: Descriptor,
  layers: z.array(Descriptor).max(500),
});
export type Manifest = z.infer<typeof Manifest>;

const Platform = z.looseObject({
  os: z.string(),
  architecture: z.string(),
  variant: z.string().optional(),
});

export const Index = z.looseObject({
  schemaVersion: z.literal(2),
  mediaType: z.string().optional(),
  manifests: z.array(
    Descriptor.extend({
      platform: Platform.optional(),
      annotations: z.record(z.string(), z.string()).optional(),
    }),
  ),
});
export type Index = z.infer<typeof Index>;

const nullable = <T extends z.ZodType>(type: T) => type.nullish();

const RunConfig = z.looseObject({
  Env: nullable(z.array(z.string())),
  WorkingDir: nullable(z.string()),
  User: nullable(z.string()),
  Entrypoint: nullable(z.array(z.string())),
  Cmd: nullable(z.array(z.string())),
  ExposedPorts: nullable(z.record(z.string(), z.unknown())),
  Labels: nullable(z.record(z.string(), z.string())),
  Volumes: nullable(z.record(z.string(), z.unknown())),
  Shell: nullable(z.array(z.string())),
});
export type RunConfig = z.infer<typeof RunConfig>;

export const History = z.looseObject({
  created: nullable(z.string()),
  created_by: nullable(z.string()),
  empty_layer: nullable(z.boolean()),
});
export type History = z.infer<typeof History>;

export const Config = z.looseObject({
  architecture: z.string(),
  os: z.string(),
  created: nullable(z.string()),
  config: nullable(RunConfig),
  rootfs: z.looseObject({ type: z.literal("layers"), diff_ids: z.array(Digest) }),
  history: nullable(z.array(History)),
});
export type Config = z.infer<typeof Config>;

/** Throws an AleError `image-invalid` that says what is wrong with whose bytes. */
export function parseDocument<T extends z.ZodType>(schema: T, bytes: Uint8Array, what: string): z.infer<T> {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes).toString("utf8"));
  } catch (cause) {
    throw new AleError("image-invalid", `${what} is no JSON`, { cause });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw new AleError("image-invalid", `${what} is malformed: ${issue?.path.join(".")}: ${issue?.message}`);
}

/** What a sandbox needs to know of a configuration. */
export function imageConfigOf(config: Config): ImageConfig {
  const run = config.config ?? {};
  return {
    env: environmentOfList(run.Env ?? []),
    workdir: run.WorkingDir || "/",
    user: run.User || "root",
    entrypoint: run.Entrypoint ?? [],
    command: run.Cmd ?? [],
    exposedPorts: Object.keys(run.ExposedPorts ?? {}),
  };
}

export function environmentOfList(list: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    list.flatMap((line) => {
      const at = line.indexOf("=");
      return at > 0 ? [[line.slice(0, at), line.slice(at + 1)] as const] : [];
    }),
  );
}

export const environmentList = (env: Readonly<Record<string, string>>): string[] =>
  Object.entries(env).map(([name, value]) => `${name}=${value}`);

/** How registries call this machine. */
export function hostPlatform(arch: string = process.arch): string {
  return `linux/${{ x64: "amd64", ia32: "386" }[arch] ?? arch}`;
}
