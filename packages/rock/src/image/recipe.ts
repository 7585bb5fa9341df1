import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { arch } from "node:process";
import { AleError } from "@ale/core";
import { AGENT, type BootstrapProgress, bootstrap } from "./bootstrap.ts";
import { BASE_IMAGE, debianSuite, resolveImage } from "./image.ts";
import { keepDirectory } from "./layers.ts";
import type { LocalImage } from "./local-image.ts";
import { type Config, hostPlatform } from "./manifest.ts";
import { getName, setName } from "./names.ts";
import { canonicalName } from "./reference.ts";
import {
  clearDeadStages,
  digestOf,
  hexOf,
  holdStore,
  lock,
  openStore,
  type Store,
  stage,
  writeFailure,
} from "./store.ts";
import { keepImage, loadImage, localImageOf } from "./stored-image.ts";

/** Images that are bootstrapped from the host's own Debian sources, for machines that reach no registry. */

export interface BootstrapImageOptions {
  readonly name: string;
  /** Default: the host's own, else bookworm. */
  readonly suite?: string;
  /** Debian packages beyond the essential set, e.g. ["python3", "git"]. */
  readonly packages?: readonly string[];
  /** Adds the user `agent` and makes it the image's. Default: false, the user is root. */
  readonly agent?: boolean;
  readonly env?: Readonly<Record<string, string>>;
  readonly command?: readonly string[];
  readonly onProgress?: (progress: BootstrapProgress) => void;
}

/** Raised when the same options make another image. */
const RECIPE = 1;
const PACKAGE = /^[a-z0-9][a-z0-9+.-]+(:[a-z0-9]+)?$/;
const SUITE = /^[a-z][a-z0-9-]*$/;
const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** Made once for each set of options; asking again costs nothing. Needs root. Throws an AleError that says what is missing. */
export async function bootstrapImage(
  home: string,
  options: BootstrapImageOptions,
  signal?: AbortSignal,
): Promise<LocalImage> {
  const name = canonicalName(options.name);
  const suite = options.suite ?? debianSuite();
  const packages = [...new Set(options.packages ?? [])].sort();
  refuseNonsense(options.name, suite, packages);
  const { agent = false, env = {}, command = ["/bin/bash"] } = options;
  const recipe = digestOf(JSON.stringify([RECIPE, suite, arch, packages, agent, env, command]));
  const store = openStore(home);
  const made = findMade(store, options.name, recipe);
  if (made !== undefined) return made;
  using _store = await holdStore(store, signal);
  using _recipe = await lock(store, `recipe-${hexOf(recipe).slice(0, 32)}`, signal);
  const meanwhile = findMade(store, options.name, recipe);
  if (meanwhile !== undefined) return meanwhile;
  clearDeadStages(store);
  using place = stage(store);
  const onProgress = options.onProgress ?? (() => {});
  try {
    mkdirSync(place.path, { recursive: true });
    await bootstrap({ suite, packages, agent, target: join(place.path, "diff"), onProgress }, signal);
    const layer = await keepDirectory(store, place, signal);
    const config = configOf({ suite, packages, agent, env, command, diffId: layer.diffId });
    const image = keepImage(store, config, [layer.tarBytes]);
    setName(store, name, { type: "image", manifest: image.digest, recipe });
    return localImageOf(store, options.name, image);
  } catch (error) {
    throw writeFailure(error, `${name} was bootstrapped`);
  }
}

function refuseNonsense(name: string, suite: string, packages: readonly string[]): void {
  if (canonicalName(name) === canonicalName(BASE_IMAGE))
    throw new AleError("image-reserved", `${BASE_IMAGE} is made by \`./ale setup image\` alone`, {
      next: "choose another name",
    });
  if (!SUITE.test(suite))
    throw new AleError("suite-invalid", `${JSON.stringify(suite)} is no Debian release`, {
      next: "name one by its code name, e.g. bookworm",
    });
  const wrong = packages.find((one) => !PACKAGE.test(one));
  if (wrong !== undefined)
    throw new AleError("package-invalid", `${JSON.stringify(wrong)} is no name of a Debian package`);
}

function findMade(store: Store, name: string, recipe: string): LocalImage | undefined {
  const target = getName(store, name)?.target;
  if (target?.type !== "image" || target.recipe !== recipe) return undefined;
  const image = loadImage(store, target.manifest);
  if (image === undefined) return undefined;
  try {
    return localImageOf(store, name, image);
  } catch {
    // A layer was lost: it is made again.
    return undefined;
  }
}

interface Recipe {
  readonly suite: string;
  readonly packages: readonly string[];
  readonly agent: boolean;
  readonly env: Readonly<Record<string, string>>;
  readonly command: readonly string[];
  readonly diffId: string;
}

function configOf(recipe: Recipe): Config {
  const { suite, packages, agent, env, command, diffId } = recipe;
  const [os, architecture] = hostPlatform().split("/");
  return {
    architecture: architecture!,
    os: os!,
    // No date: the same files are the same image.
    created: "1970-01-01T00:00:00Z",
    config: {
      Env: Object.entries({ PATH, ...env }).map(([key, value]) => `${key}=${value}`),
      WorkingDir: "/",
      User: agent ? AGENT.name : "",
      Entrypoint: null,
      Cmd: [...command],
      ExposedPorts: null,
      Labels: { "ale.bootstrap.suite": suite, "ale.bootstrap.packages": packages.join(" ") },
      Volumes: null,
      Shell: null,
    },
    rootfs: { type: "layers", diff_ids: [diffId as `sha256:${string}`] },
    history: [{ created: null, created_by: `bootstrap ${suite} ${packages.join(" ")}`, empty_layer: null }],
  };
}

/** Lets a name stand for another local image. Results that are made with it say so. */
export function mapImage(home: string, name: string, to: string): LocalImage {
  if (canonicalName(name) === canonicalName(BASE_IMAGE))
    throw new AleError("image-reserved", `${BASE_IMAGE} always stands for itself`, {
      next: "map another name",
    });
  const target = resolveImage(home, to);
  if (canonicalName(target.mappedTo ?? to) === canonicalName(name))
    throw new AleError("mapping-cycle", `${name} cannot stand for itself`);
  setName(openStore(home), name, { type: "mapped", to: target.mappedTo ?? canonicalName(to) });
  return resolveImage(home, name);
}

/** A Debian with python3, bash, coreutils, sed, procps and useradd; the user is root. */
export const PYTHON_IMAGE = "ale/python";
const PYTHON_PACKAGES = ["mawk", "passwd", "procps", "python-is-python3", "python3"] as const;

/** The image of Python tasks and of the compatibility tests, also known as `python:3.11` where nobody has pulled that. */
export async function ensurePythonImage(
  home: string,
  options: Pick<BootstrapImageOptions, "onProgress"> = {},
  signal?: AbortSignal,
): Promise<LocalImage> {
  const image = await bootstrapImage(
    home,
    { ...options, name: PYTHON_IMAGE, packages: PYTHON_PACKAGES, command: ["python3"] },
    signal,
  );
  if (getName(openStore(home), "python:3.11") === undefined) mapImage(home, "python:3.11", PYTHON_IMAGE);
  return image;
}
