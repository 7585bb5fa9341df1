import { readFileSync } from "node:fs";
import { join } from "node:path";
import { AleError, type Limits } from "@ale/core";
import type { OciDriver } from "../oci/oci-driver.ts";
import { commandOf, proxies } from "./build-command.ts";
import { type CopySource, layerSource } from "./build-context.ts";
import { type CopyEntry, digestOfPlan, planCopy, planDirectory, tarOfPlan } from "./build-copy.ts";
import type { BuildProgress } from "./build-progress.ts";
import { runStep } from "./build-run.ts";
import { PROXY_ARGS, type StageLayer, StageState, wrong } from "./build-stage.ts";
import { type Dockerfile, dockerfileError, type Instruction } from "./dockerfile.ts";
import { expandWord, splitWords } from "./dockerfile-words.ts";
import { storedImage } from "./find-image.ts";
import { resolveImage } from "./image.ts";
import { readLayer } from "./layers.ts";
import { type Config, hostPlatform } from "./manifest.ts";
import { idsOf, MergedTree } from "./merged.ts";
import { pullImage } from "./pull.ts";
import type { RegistryOptions } from "./registry.ts";
import { hexOf, replaceFile, type Store } from "./store.ts";
import { makeLayer } from "./unpack.ts";

/** Does the instructions of a stage. A step with the same inputs over the same ground is taken from the cache. */

export interface StageContext {
  readonly home: string;
  readonly store: Store;
  readonly file: Dockerfile;
  /** As errors name it. */
  readonly name: string;
  readonly context: CopySource;
  readonly globals: ReadonlyMap<string, string>;
  readonly args: Readonly<Record<string, string>>;
  readonly network: "none" | "host";
  readonly limits: Limits;
  readonly useCache: boolean;
  readonly pull: "missing" | "never";
  readonly registry: RegistryOptions;
  driver(): OciDriver;
  /** Undefined where no earlier stage has that name. */
  stageOf(name: string, line: number): Promise<StageState | undefined>;
  report(progress: BuildProgress): void;
  readonly signal?: AbortSignal;
}

const SCRATCH: Config = {
  os: "linux",
  architecture: hostPlatform().split("/")[1]!,
  created: null,
  config: null,
  rootfs: { type: "layers", diff_ids: [] },
  history: null,
};

export class StageBuilder {
  readonly counts = { steps: 0, cachedSteps: 0 };
  readonly #build: StageContext;

  constructor(build: StageContext) {
    this.#build = build;
  }

  /** The ground of a stage: an earlier one, an image, or nothing. */
  async begin(
    from: Instruction,
    base: string,
    platform: string | undefined,
    ground: StageState | undefined,
  ): Promise<StageState> {
    return await this.#at(from.line, async () => {
      if (ground !== undefined) return new StageState(ground.finished(), ground.layers, ground.key);
      if (base === "scratch") return new StageState(SCRATCH, [], "scratch");
      const image = await this.#image(base, platform, from.line);
      return new StageState(image.config, image.layers, image.digest);
    });
  }

  async #image(name: string, platform: string | undefined, line: number) {
    const { home, store, pull, registry, signal } = this.#build;
    try {
      const { mappedTo } = resolveImage(home, name);
      if (mappedTo !== undefined) this.#warn(line, `${name} stands for the local image ${mappedTo} here`);
    } catch (error) {
      if (!(error instanceof AleError) || error.code !== "image-unknown" || pull === "never") throw error;
      await pullImage(home, name, { ...registry, ...(platform === undefined ? {} : { platform }) }, signal);
    }
    const { digest, config, manifest } = await storedImage(home, name, signal);
    const layers = config.rootfs.diff_ids.map((diffId, index) => ({
      diffId,
      tarBytes: readLayer(store, diffId)?.tarBytes ?? 0,
      descriptor: manifest.layers[index]!,
    }));
    return { digest, config, layers };
  }

  async step(state: StageState, instruction: Instruction): Promise<void> {
    const { line, keyword } = instruction;
    this.#build.signal?.throwIfAborted();
    await this.#at(line, async () => {
      switch (keyword) {
        case "RUN":
          return await this.#run(state, instruction);
        case "COPY":
        case "ADD":
          return await this.#copy(state, instruction);
        case "WORKDIR":
          return await this.#workdir(state, instruction);
        case "ARG":
          return this.#arg(state, instruction);
        case "ONBUILD":
          throw wrong("ONBUILD is not supported: write the instruction into the Dockerfile that needs it");
        default:
          if (keyword === "HEALTHCHECK" || keyword === "VOLUME")
            this.#warn(line, `${keyword} has no effect in a sandbox`);
          if (!state.configure(instruction, this.#build.file)) throw wrong(`${keyword} cannot stand here`);
          this.#told(instruction, false);
      }
    });
  }

  /** Errors of a step get its line. */
  async #at<T>(line: number, work: () => Promise<T>): Promise<T> {
    const { name } = this.#build;
    try {
      return await work();
    } catch (error) {
      this.#build.signal?.throwIfAborted();
      if (!(error instanceof AleError) || error.message.startsWith(`${name}:`)) throw error;
      if (error.code === "dockerfile-invalid") throw dockerfileError(name, line, error.message, error.next);
      throw new AleError(error.code, `${name}:${line}: ${error.message}`, {
        ...(error.next === undefined ? {} : { next: error.next }),
        cause: error,
      });
    }
  }

  #warn(line: number, message: string): void {
    this.#build.report({ type: "warning", line, message });
  }

  #told({ line, keyword, text }: Instruction, cached: boolean): void {
    this.counts.steps++;
    if (cached) this.counts.cachedSteps++;
    this.#build.report({ type: "step", line, text: `${keyword} ${text}`, cached });
  }

  #expand(state: StageState, word: string): string {
    return expandWord(word, state.lookup, this.#build.file.escapeMark);
  }

  #arg(state: StageState, instruction: Instruction): void {
    const { args, globals, file } = this.#build;
    const words = splitWords(instruction.text, file.escapeMark);
    if (words.length === 0) throw wrong("ARG has the form ARG NAME[=DEFAULT]");
    for (const word of words) {
      const at = word.indexOf("=");
      const name = at < 0 ? word : word.slice(0, at);
      if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) throw wrong(`${name} is no name of a variable`);
      const fallback = at < 0 ? globals.get(name) : this.#expand(state, word.slice(at + 1));
      const value = args[name] ?? fallback;
      if (value === undefined) state.args.delete(name);
      else state.args.set(name, value);
    }
    this.#told(instruction, false);
  }

  async #workdir(state: StageState, instruction: Instruction): Promise<void> {
    const words = splitWords(instruction.text, this.#build.file.escapeMark);
    const path = words.map((word) => this.#expand(state, word)).join(" ");
    if (path === "") throw wrong("WORKDIR needs a path");
    state.config.WorkingDir = normal(state.absolute(path));
    const tree = new MergedTree(state.directories(this.#build.store));
    const plan = planDirectory(tree, state.workdir, idsOf(tree, state.user));
    await this.#layerOf(state, instruction, plan, ["WORKDIR", state.workdir, state.user]);
  }

  async #copy(state: StageState, instruction: Instruction): Promise<void> {
    const { store, file, context } = this.#build;
    const { keyword, json, text, heredocs } = instruction;
    const flags = flagsOf(instruction, ["from", "chown", "chmod", "link", "checksum", "exclude", "parents"]);
    for (const name of ["checksum", "exclude", "parents"])
      if (flags.has(name)) throw wrong(`${keyword} --${name} is not supported`);
    const words = (json ?? splitWords(text, file.escapeMark)).map((word) => this.#expand(state, word));
    const target = words.pop();
    const patterns = words.filter((word) => !/^<<-?/.test(word));
    if (target === undefined || words.length === 0)
      throw wrong(`${keyword} has the form ${keyword} SOURCE… TARGET`);
    const remote = patterns.find((word) => /^(https?|git|ssh|ftp):\/\/|^git@/.test(word));
    if (remote !== undefined)
      throw wrong(
        `${keyword} of ${remote} is not supported: fetch it yourself and COPY it, so that what is built is known`,
      );
    const tree = new MergedTree(state.directories(store));
    const fromName = flags.has("from") ? this.#expand(state, flags.get("from")!) : undefined;
    const source = fromName === undefined ? context : await this.#sourceOf(fromName, instruction.line);
    const plan = planCopy(tree, {
      source,
      patterns,
      inline: heredocs.map(({ name, content, expand }) => ({
        name,
        content: expand ? expandText(content, state, file) : content,
      })),
      target: `${state.absolute(target)}${target === "." || target.endsWith("/.") ? "/" : ""}`,
      owner: flags.has("chown") ? idsOf(tree, this.#expand(state, flags.get("chown")!)) : { uid: 0, gid: 0 },
      mode: flags.has("chmod") ? modeOf(this.#expand(state, flags.get("chmod")!)) : undefined,
      extract: keyword === "ADD" && fromName === undefined,
    });
    const digest = await digestOfPlan(plan, this.#build.signal);
    await this.#layerOf(state, instruction, plan, [keyword, digest]);
  }

  async #sourceOf(name: string, line: number): Promise<CopySource> {
    const { store, stageOf } = this.#build;
    const stage = await stageOf(name, line);
    if (stage !== undefined) return layerSource(stage.directories(store));
    const image = await this.#image(name, undefined, line);
    const state = new StageState(image.config, image.layers, image.digest);
    return layerSource(state.directories(store));
  }

  async #layerOf(
    state: StageState,
    instruction: Instruction,
    plan: readonly CopyEntry[],
    identity: readonly unknown[],
  ): Promise<void> {
    const { store, signal } = this.#build;
    const key = state.advance(...identity);
    if (plan.length === 0) return this.#told(instruction, false);
    const known = this.#cached(key);
    this.#told(instruction, known !== undefined);
    const layer = known ?? (await makeLayer(store, tarOfPlan(plan), signal));
    if (known === undefined) this.#remember(key, layer);
    state.addLayer(layer, `${instruction.keyword} ${instruction.text}`);
  }

  async #run(state: StageState, instruction: Instruction): Promise<void> {
    const { store, limits, signal, report } = this.#build;
    const network = this.#networkOf(instruction);
    const { argv, text } = commandOf(state, instruction);
    const env = state.runEnvironment();
    const identity = Object.entries(env).filter(([name]) => !PROXY_ARGS.includes(name) || name in state.env);
    const key = state.advance("RUN", argv, identity, state.user, state.workdir, network);
    const known = this.#cached(key);
    this.#told({ ...instruction, text }, known !== undefined);
    const layer =
      known ??
      (await runStep(
        this.#build.driver(),
        store,
        {
          image: state.localImage(store),
          argv,
          env: network === "host" ? { ...proxies(this.#build.args), ...env } : env,
          user: state.user,
          workdir: state.workdir,
          network,
          limits,
        },
        (chunk) => report({ type: "output", line: instruction.line, chunk }),
        signal,
      ));
    if (known === undefined) this.#remember(key, layer);
    state.addLayer(layer, `RUN ${text}`);
  }

  #networkOf(instruction: Instruction): "none" | "host" {
    for (const { name, value } of instruction.flags) {
      if (name === "network") continue;
      if (name !== "mount") throw wrong(`RUN --${name} is not supported`);
      const type = /(?:^|,)type=([a-z]+)/.exec(value)?.[1] ?? "bind";
      if (type !== "cache" && type !== "tmpfs")
        throw wrong(`RUN --mount=type=${type} is not supported: COPY what the command needs`);
      this.#warn(instruction.line, `--mount=type=${type} is left out: the command runs without it`);
    }
    const asked = instruction.flags.find(({ name }) => name === "network")?.value ?? "default";
    if (asked === "none") return "none";
    if (asked === "host" && this.#build.network !== "host")
      throw wrong("RUN --network=host needs the build to be started with `--network host`, too");
    if (asked !== "default" && asked !== "host") throw wrong(`RUN --network=${asked} is not supported`);
    return this.#build.network;
  }

  #cached(key: string): StageLayer | undefined {
    if (!this.#build.useCache) return undefined;
    try {
      const { diffId } = JSON.parse(readFileSync(cachePath(this.#build.store, key), "utf8")) as StageLayer;
      const record = readLayer(this.#build.store, diffId);
      return record && { diffId, tarBytes: record.tarBytes };
    } catch {
      return undefined;
    }
  }

  #remember(key: string, { diffId }: StageLayer): void {
    replaceFile(this.#build.store, cachePath(this.#build.store, key), JSON.stringify({ diffId }));
  }
}

export const cachePath = (store: Store, key: string): string =>
  join(store.root, "cache", `${hexOf(key)}.json`);

const normal = (path: string): string =>
  `/${path
    .split("/")
    .filter((name) => name !== "" && name !== ".")
    .join("/")}`;

function flagsOf({ keyword, flags }: Instruction, known: readonly string[]): Map<string, string> {
  const unknown = flags.find(({ name }) => !known.includes(name));
  if (unknown !== undefined) throw wrong(`${keyword} knows no --${unknown.name}`);
  return new Map(flags.map(({ name, value }) => [name, value]));
}

function modeOf(text: string): number {
  if (!/^0?[0-7]{3,4}$/.test(text)) throw wrong(`--chmod=${text} is no octal mode such as 755`);
  return Number.parseInt(text, 8);
}

/** In a here-document only variables are put in: quotes and escapes are its own text. */
function expandText(content: string, state: StageState, { escapeMark }: Dockerfile): string {
  const token = /[\\`].|\$\{(?:[^{}]|\{[^{}]*\})*\}|\$[A-Za-z_]\w*/gs;
  return content.replace(token, (found) =>
    found.startsWith("$") ? expandWord(found, state.lookup, escapeMark) : found,
  );
}
