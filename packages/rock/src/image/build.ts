import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { AleError, Limits, suggest } from "@ale/core";
import { OciDriver } from "../oci/oci-driver.ts";
import { contextSource } from "./build-context.ts";
import type { BuildProgress } from "./build-progress.ts";
import { PROXY_ARGS, type StageState, wrong } from "./build-stage.ts";
import { StageBuilder } from "./build-steps.ts";
import { type Dockerfile, dockerfileError, type Instruction, parseDockerfile } from "./dockerfile.ts";
import { expandWord, splitWords } from "./dockerfile-words.ts";
import type { LocalImage } from "./local-image.ts";
import { hostPlatform } from "./manifest.ts";
import { setName } from "./names.ts";
import { canonicalName } from "./reference.ts";
import type { RegistryOptions } from "./registry.ts";
import { clearDeadStages, holdStore, openStore, type Store, writeFailure } from "./store.ts";
import { keepImage, localImageOf } from "./stored-image.ts";

/**
 * Images from Dockerfiles, without a daemon: every RUN is a sandbox of our own driver with no network unless that is spelled out. A
 * step that was done before, over the same layers and with the same inputs, is not done again.
 */

export interface BuildOptions {
  /** The directory that COPY takes from. */
  readonly context: string;
  /** Default: `Dockerfile` in the context. */
  readonly dockerfile?: string;
  /** The name of the new image. */
  readonly tag: string;
  /** Values for ARG. */
  readonly args?: Readonly<Record<string, string>>;
  /** The stage to build: its name or number. Default: the last. */
  readonly target?: string;
  /**
   * `host` lets RUN use this machine's network, with its proxies: everything that the Dockerfile runs then reaches whatever this machine
   * reaches, its own services included. Default: `none`.
   */
  readonly network?: "none" | "host";
  /** What RUN may use. Default: 2 GiB of memory, 8 GiB of disk, 1,024 processes, half an hour a step, all processors. */
  readonly limits?: Partial<Limits>;
  /** Whether base images that are not here are pulled. Default: `missing`. */
  readonly pull?: "missing" | "never";
  readonly registry?: RegistryOptions;
  readonly useCache?: boolean;
  /** Limits that need not hold where the host cannot enforce them (see the driver's option). Only without `driver`. */
  readonly unenforced?: readonly ("memory" | "cpu")[];
  /** For RUN without network. Default: one of its own, closed at the end. */
  readonly driver?: OciDriver;
  readonly onProgress?: (progress: BuildProgress) => void;
}

export interface BuildResult {
  readonly image: LocalImage;
  readonly steps: number;
  readonly cachedSteps: number;
  readonly warnings: readonly string[];
}

interface Stage {
  readonly from: Instruction;
  readonly name: string | undefined;
  readonly base: string;
  readonly platform: string | undefined;
  readonly body: readonly Instruction[];
}

/** Throws an AleError that names the line (`dockerfile-invalid`, `build-failed`), or what a pull throws. */
export async function buildImage(
  home: string,
  options: BuildOptions,
  signal?: AbortSignal,
): Promise<BuildResult> {
  canonicalName(options.tag);
  const store = openStore(home);
  using _ = await holdStore(store, signal);
  clearDeadStages(store);
  const build = new Build(home, store, options, signal);
  try {
    const state = await build.run();
    const sizes = state.layers.map(({ tarBytes }) => tarBytes);
    const image = keepImage(store, state.finished(), sizes, state.descriptors());
    setName(store, options.tag, { type: "image", manifest: image.digest });
    return { image: localImageOf(store, options.tag, image), ...build.tally() };
  } catch (error) {
    throw writeFailure(error, `${options.tag} was built`);
  } finally {
    await build.close();
  }
}

class Build {
  readonly #home: string;
  readonly #options: BuildOptions;
  readonly #signal: AbortSignal | undefined;
  readonly #name: string;
  readonly #path: string;
  readonly #file: Dockerfile;
  readonly #stages: readonly Stage[];
  readonly #globals = new Map<string, string>();
  readonly #states = new Map<number, StageState>();
  readonly #builder: StageBuilder;
  readonly #warnings: string[] = [];
  #driver: OciDriver | undefined;

  constructor(home: string, store: Store, options: BuildOptions, signal?: AbortSignal) {
    this.#home = home;
    this.#options = options;
    this.#signal = signal;
    this.#path = options.dockerfile ?? join(options.context, "Dockerfile");
    this.#name = this.#path.slice(this.#path.lastIndexOf("/") + 1);
    if (!existsSync(this.#path))
      throw new AleError("dockerfile-missing", `there is no ${this.#path}`, {
        next: "name the file with --file, or make it",
      });
    this.#file = parseDockerfile(readFileSync(this.#path, "utf8"), this.#name);
    this.#setPlatformArgs();
    this.#stages = this.#split();
    this.#builder = new StageBuilder({
      home,
      store,
      file: this.#file,
      name: this.#name,
      context: contextSource(options.context, this.#path),
      globals: this.#globals,
      args: options.args ?? {},
      network: options.network ?? "none",
      limits: limitsOf(options.limits ?? {}),
      useCache: options.useCache ?? true,
      pull: options.pull ?? "missing",
      registry: options.registry ?? {},
      driver: () => this.#openDriver(),
      stageOf: (name, line) => this.#stageOf(name, line),
      report: (progress) => this.#report(progress),
      ...(signal === undefined ? {} : { signal }),
    });
  }

  async run(): Promise<StageState> {
    this.#warnAboutArgs();
    return this.#build(this.#target());
  }

  tally(): { steps: number; cachedSteps: number; warnings: readonly string[] } {
    return { ...this.#builder.counts, warnings: this.#warnings };
  }

  async close(): Promise<void> {
    if (this.#driver !== this.#options.driver) await this.#driver?.[Symbol.asyncDispose]();
  }

  #openDriver(): OciDriver {
    const { driver, network = "none", unenforced = [] } = this.#options;
    // A driver that anybody else uses never has the host's network.
    if (network === "host")
      this.#driver ??= new OciDriver({ home: this.#home, unenforced, buildNetwork: "host" });
    this.#driver ??= driver ?? new OciDriver({ home: this.#home, unenforced });
    return this.#driver;
  }

  #report(progress: BuildProgress): void {
    if (progress.type === "warning")
      this.#warnings.push(`${this.#name}:${progress.line}: ${progress.message}`);
    this.#options.onProgress?.(progress);
  }

  #setPlatformArgs(): void {
    const platform = hostPlatform();
    const [os, architecture] = platform.split("/");
    for (const side of ["BUILD", "TARGET"]) {
      this.#globals.set(`${side}PLATFORM`, platform);
      this.#globals.set(`${side}OS`, os!);
      this.#globals.set(`${side}ARCH`, architecture!);
    }
  }

  /** Into stages; ARGs before the first are for FROM alone. */
  #split(): Stage[] {
    const stages: (Stage & { body: Instruction[] })[] = [];
    for (const instruction of this.#file.instructions) {
      this.#at(instruction.line, () => {
        if (instruction.keyword === "FROM") stages.push({ ...this.#from(instruction), body: [] });
        else if (stages.length > 0) stages.at(-1)!.body.push(instruction);
        else if (instruction.keyword === "ARG") this.#globalArg(instruction);
        else throw wrong(`${instruction.keyword} before the first FROM`);
      });
    }
    if (stages.length === 0) throw dockerfileError(this.#name, 1, "it has no FROM", "begin with FROM IMAGE");
    return stages;
  }

  /** Errors of what is done here get the line. */
  #at<T>(line: number, work: () => T): T {
    try {
      return work();
    } catch (error) {
      if (
        error instanceof AleError &&
        error.code === "dockerfile-invalid" &&
        !error.message.startsWith(`${this.#name}:`)
      )
        throw dockerfileError(this.#name, line, error.message, error.next);
      throw error;
    }
  }

  #globalArg({ text }: Instruction): void {
    for (const word of splitWords(text, this.#file.escapeMark)) {
      const at = word.indexOf("=");
      const name = at < 0 ? word : word.slice(0, at);
      const value = this.#options.args?.[name] ?? (at < 0 ? undefined : this.#expand(word.slice(at + 1)));
      if (value !== undefined) this.#globals.set(name, value);
    }
  }

  #expand(word: string): string {
    return expandWord(word, (name) => this.#globals.get(name), this.#file.escapeMark);
  }

  #from(from: Instruction): Omit<Stage, "body"> {
    const words = splitWords(from.text, this.#file.escapeMark).map((word) => this.#expand(word));
    const [base, as, name] = words;
    const isNamed = words.length === 3 && as?.toLowerCase() === "as";
    if (base === undefined || base === "" || (words.length !== 1 && !isNamed))
      throw wrong("FROM has the form FROM IMAGE [AS NAME]");
    const unknown = from.flags.find((flag) => flag.name !== "platform");
    if (unknown !== undefined) throw wrong(`FROM knows no --${unknown.name}`);
    const platform = from.flags[0] === undefined ? undefined : this.#expand(from.flags[0].value);
    return { from, name: name?.toLowerCase(), base, platform };
  }

  #target(): number {
    const { target } = this.#options;
    if (target === undefined) return this.#stages.length - 1;
    const index = this.#indexOf(target, this.#stages.length);
    if (index !== undefined) return index;
    const names = this.#stages.flatMap(({ name }) => name ?? []);
    const meant = suggest(target, names);
    throw new AleError("stage-unknown", `${this.#name} has no stage ${target}`, {
      next:
        meant === undefined ? `its stages are ${names.join(", ") || "not named"}` : `did you mean ${meant}?`,
    });
  }

  /** The latest of that name before a stage. */
  #indexOf(name: string, before: number): number | undefined {
    const named = this.#stages.slice(0, before).findLastIndex((stage) => stage.name === name.toLowerCase());
    if (named >= 0) return named;
    return /^\d+$/.test(name) && Number(name) < before ? Number(name) : undefined;
  }

  /** For COPY --from: a stage above the line, built now if it was not yet. */
  async #stageOf(name: string, line: number): Promise<StageState | undefined> {
    const here = this.#stages.findLastIndex((stage) => stage.from.line <= line);
    const index = this.#indexOf(name, here);
    return index === undefined ? undefined : await this.#build(index);
  }

  /** Only what the target needs is built. */
  async #build(index: number): Promise<StageState> {
    const before = this.#states.get(index);
    if (before !== undefined) return before;
    const { from, base, platform, body } = this.#stages[index]!;
    this.#signal?.throwIfAborted();
    const inner = this.#indexOf(base, index);
    const ground = inner === undefined ? undefined : await this.#build(inner);
    const state = await this.#builder.begin(from, base, platform, ground);
    for (const instruction of body) await this.#builder.step(state, instruction);
    this.#states.set(index, state);
    return state;
  }

  #warnAboutArgs(): void {
    const declared = this.#file.instructions
      .filter(({ keyword }) => keyword === "ARG")
      .flatMap(({ text }) =>
        splitWords(text, this.#file.escapeMark).map((word) => word.replace(/=.*$/s, "")),
      );
    for (const name of Object.keys(this.#options.args ?? {}))
      if (!declared.includes(name) && !PROXY_ARGS.includes(name))
        this.#report({
          type: "warning",
          line: 1,
          message: `the argument ${name} is not used: there is no ARG ${name}`,
        });
  }
}

function limitsOf(more: Partial<Limits>): Limits {
  const half = 30 * 60_000;
  return Limits.parse({
    cpus: 1,
    memoryBytes: 2 * 2 ** 30,
    diskBytes: 8 * 2 ** 30,
    pids: 1024,
    execTimeoutMs: half,
    lifetimeMs: half + 60_000,
    ...more,
  });
}
