import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { arch } from "node:process";
import { AleError, suggest } from "@ale/core";
import { removeTree } from "../host/mounts.ts";
import { isAlive, self } from "../host/owner.ts";
import { AGENT, type BootstrapProgress, bootstrap, PACKAGES } from "./bootstrap.ts";
import type { LocalImage } from "./local-image.ts";
import { getName, listNames } from "./names.ts";
import { canonicalName } from "./reference.ts";
import { openStore, type Store } from "./store.ts";
import { loadImage, localImageOf } from "./stored-image.ts";

/**
 * Local images by name. `ale/base`, a minimal Debian, is bootstrapped once from the host's own package sources into a place of its
 * own; all others lie in the store.
 */

export const BASE_IMAGE = "ale/base";
/** Raised when what the recipe makes changes, so that old images are not taken for new ones. */
const RECIPE = 1;

export interface Image {
  readonly name: string;
  /** Identifies the recipe that made it: suite, architecture, packages, recipe version. */
  readonly version: string;
  readonly rootfs: string;
}

export interface EnsureOptions {
  readonly onProgress?: (progress: BootstrapProgress) => void;
}

/** The host's release where the host is a Debian, else the release that the recipe was written for. */
export function debianSuite(osRelease = readOsRelease()): string {
  const field = (name: string): string =>
    new RegExp(`^${name}="?([a-z0-9-]+)"?$`, "m").exec(osRelease)?.[1] ?? "";
  return field("ID") === "debian" && field("VERSION_CODENAME") !== ""
    ? field("VERSION_CODENAME")
    : "bookworm";
}

function readOsRelease(): string {
  return existsSync("/etc/os-release") ? readFileSync("/etc/os-release", "utf8") : "";
}

/** Where the base image is, or would be, under `home`. */
export function baseImage(home: string, suite = debianSuite()): Image {
  const recipe = JSON.stringify([RECIPE, suite, arch, PACKAGES]);
  const version = `${suite}-${createHash("sha256").update(recipe).digest("hex").slice(0, 12)}`;
  return { name: BASE_IMAGE, version, rootfs: join(home, "images", "ale-base", version, "rootfs") };
}

/** The image of a spec. Throws an AleError for a name that is not known or not there. */
export function resolveImage(home: string, name: string): LocalImage {
  if (canonicalName(name) === canonicalName(BASE_IMAGE)) return resolveBase(home, name);
  const store = openStore(home);
  const target = getName(store, name)?.target;
  if (target?.type === "mapped") {
    const image = resolveImage(home, target.to);
    return { ...image, name, mappedTo: image.mappedTo ?? target.to };
  }
  const image = target && loadImage(store, target.manifest);
  if (image === undefined) throw unknownImage(store, name);
  return localImageOf(store, name, image);
}

function resolveBase(home: string, name: string): LocalImage {
  const image = baseImage(home);
  if (!existsSync(image.rootfs))
    throw new AleError("image-missing", `the base image is not in ${join(home, "images")}`, {
      next: "run `./ale setup image`, which bootstraps it (about 110 MB, well under a minute on a fast line)",
    });
  return {
    name,
    digest: image.version,
    layers: [image.rootfs],
    config: { env: {}, workdir: "/", user: AGENT.name, entrypoint: [], command: [], exposedPorts: [] },
  };
}

function unknownImage(store: Store, name: string): AleError {
  // A server's tenants have images of their own under a host that cannot exist: their names are told to nobody.
  const names = listNames(store).filter((record) => !record.name.startsWith("private.invalid/"));
  const known = [BASE_IMAGE, ...names.map((record) => record.name.replace(/:latest$/, ""))];
  const meant = suggest(name, known);
  const pull = `get it with \`ale rock image pull ${name}\`, or map the name to a local image`;
  return new AleError("image-unknown", `there is no local image called ${name}`, {
    next: meant === undefined ? pull : `did you mean ${meant}? Otherwise ${pull}`,
  });
}

const underway = new Map<string, Promise<Image>>();

/**
 * Makes the base image if it is not there. Built in a directory beside its place and renamed at the end, so that a crash
 * leaves nothing that could be taken for an image. Needs root. Throws an AleError that says what is missing.
 */
export async function ensureBaseImage(
  home: string,
  options: EnsureOptions = {},
  signal?: AbortSignal,
): Promise<Image> {
  const image = baseImage(home);
  if (existsSync(image.rootfs)) return image;
  let building = underway.get(image.rootfs);
  if (building === undefined) {
    building = build(home, image, options, signal).finally(() => underway.delete(image.rootfs));
    underway.set(image.rootfs, building);
  }
  return building;
}

async function build(
  home: string,
  image: Image,
  options: EnsureOptions,
  signal?: AbortSignal,
): Promise<Image> {
  const parent = join(home, "images", "ale-base");
  mkdirSync(parent, { recursive: true });
  removeDeadBuilds(parent);
  const owner = self();
  const directory = join(parent, `.building-${owner.pid}-${owner.startTime}`);
  const startedAt = performance.now();
  try {
    await bootstrap(
      {
        suite: debianSuite(),
        packages: PACKAGES,
        agent: true,
        target: join(directory, "rootfs"),
        onProgress: options.onProgress ?? (() => {}),
      },
      signal,
    );
    const manifest = { name: image.name, version: image.version, suite: debianSuite(), packages: PACKAGES };
    const seconds = Math.round((performance.now() - startedAt) / 100) / 10;
    writeFileSync(join(directory, "image.json"), `${JSON.stringify({ ...manifest, seconds }, null, 2)}\n`);
    try {
      renameSync(directory, join(parent, image.version));
    } catch (cause) {
      // Another process was quicker; its image is as good as ours.
      if (!existsSync(image.rootfs)) throw cause;
    }
    return image;
  } finally {
    removeTree(directory);
  }
}

/** Removes what a build left that was killed half-way. */
function removeDeadBuilds(parent: string): void {
  for (const name of readdirSync(parent)) {
    const match = /^\.building-(\d+)-(\d+)$/.exec(name);
    if (match && !isAlive({ ...self(), pid: Number(match[1]), startTime: Number(match[2]) }))
      removeTree(join(parent, name));
  }
}
