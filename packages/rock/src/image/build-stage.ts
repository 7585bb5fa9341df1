import { AleError } from "@ale/core";
import type { Dockerfile, Instruction } from "./dockerfile.ts";
import { expandWord, type Lookup, splitWords } from "./dockerfile-words.ts";
import { layerPath } from "./layers.ts";
import type { LocalImage } from "./local-image.ts";
import {
  type Config,
  type Descriptor,
  environmentList,
  environmentOfList,
  type History,
  imageConfigOf,
  type RunConfig,
} from "./manifest.ts";
import { digestOf, type Store } from "./store.ts";

/** What a stage of a build has become so far: layers, configuration, variables. Changed by one instruction after the other. */

export interface StageLayer {
  readonly diffId: string;
  readonly tarBytes: number;
  /** Where the layer came with an image: how its bytes are kept. */
  readonly descriptor?: Descriptor;
}

const DEFAULT_SHELL = ["/bin/sh", "-c"];
const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/** Known without ARG, and never part of a step's identity: they say how the network is reached, not what is built. */
export const PROXY_ARGS = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"].flatMap(
  (name) => [name, name.toLowerCase()],
);

export class StageState {
  readonly layers: StageLayer[];
  readonly platform: { readonly os: string; readonly architecture: string };
  readonly config: { -readonly [K in keyof RunConfig]: RunConfig[K] };
  readonly history: History[];
  readonly env: Record<string, string>;
  readonly args = new Map<string, string>();
  shell: readonly string[];
  /** Identifies everything done so far. */
  key: string;
  #commandSet = false;

  constructor(base: Config, layers: readonly StageLayer[], identity: string) {
    this.layers = [...layers];
    this.platform = { os: base.os, architecture: base.architecture };
    this.config = { ...(base.config ?? {}) } as RunConfig;
    this.history = [...(base.history ?? [])];
    this.env = environmentOfList(this.config.Env ?? []);
    this.shell = this.config.Shell ?? DEFAULT_SHELL;
    this.key = digestOf(JSON.stringify(["stage", identity, this.config]));
  }

  get user(): string {
    return this.config.User || "root";
  }

  get workdir(): string {
    return this.config.WorkingDir || "/";
  }

  /** Variables as an instruction sees them: ENV before ARG. */
  get lookup(): Lookup {
    return (name) => (Object.hasOwn(this.env, name) ? this.env[name] : this.args.get(name));
  }

  /** The environment of RUN. */
  runEnvironment(): Record<string, string> {
    return { PATH: DEFAULT_PATH, ...Object.fromEntries(this.args), ...this.env };
  }

  advance(...parts: readonly unknown[]): string {
    this.key = digestOf(JSON.stringify([this.key, ...parts]));
    return this.key;
  }

  addLayer(layer: StageLayer, text: string): void {
    this.layers.push({ diffId: layer.diffId, tarBytes: layer.tarBytes });
    this.#record(text, false);
  }

  #record(text: string, empty: boolean): void {
    this.history.push({ created: null, created_by: text.slice(0, 4096), empty_layer: empty });
  }

  absolute(path: string): string {
    return path.startsWith("/") ? path : `${this.workdir.replace(/\/$/, "")}/${path}`;
  }

  /** Of the layers that came with an image. */
  descriptors(): Descriptor[] {
    return this.layers.flatMap(({ descriptor }) => descriptor ?? []);
  }

  /** Uppermost first, as a tree or a sandbox needs them. */
  directories(store: Store): string[] {
    return this.layers.map(({ diffId }) => layerPath(store, diffId)).reverse();
  }

  localImage(store: Store): LocalImage {
    return {
      name: "build",
      digest: this.key,
      layers: this.directories(store),
      config: imageConfigOf(this.finished()),
    };
  }

  finished(): Config {
    const { config } = this;
    return {
      ...this.platform,
      // No date: the same Dockerfile over the same files is the same image.
      created: "1970-01-01T00:00:00Z",
      config: { ...config, Env: environmentList(this.env) },
      rootfs: { type: "layers", diff_ids: this.layers.map(({ diffId }) => diffId as `sha256:${string}`) },
      history: this.history,
    };
  }

  /** Instructions that change nothing but the configuration. False for one that is none of these. */
  configure(instruction: Instruction, { escapeMark }: Dockerfile): boolean {
    const { keyword, text, json } = instruction;
    const expand = (word: string): string => expandWord(word, this.lookup, escapeMark);
    const words = (): string[] => json?.map((word) => word) ?? splitWords(text, escapeMark).map(expand);
    switch (keyword) {
      case "ENV":
        Object.assign(this.env, this.#pairs(text, expand, escapeMark));
        break;
      case "LABEL":
        this.config.Labels = { ...this.config.Labels, ...this.#pairs(text, expand, escapeMark) };
        break;
      case "USER":
        this.config.User = only(words(), "USER");
        break;
      case "SHELL":
        if (json === undefined || json.length === 0)
          throw wrong('SHELL has the form ["program", "argument"]');
        this.shell = json;
        this.config.Shell = [...json];
        break;
      case "CMD":
        this.config.Cmd = this.#program(instruction);
        this.#commandSet = true;
        break;
      case "ENTRYPOINT":
        this.config.Entrypoint = this.#program(instruction);
        // A command that was meant for another program.
        if (!this.#commandSet) this.config.Cmd = null;
        break;
      case "EXPOSE":
        this.config.ExposedPorts = { ...this.config.ExposedPorts, ...Object.fromEntries(words().map(port)) };
        break;
      case "VOLUME":
        this.config.Volumes = {
          ...this.config.Volumes,
          ...Object.fromEntries(words().map((path) => [path, {}])),
        };
        break;
      case "STOPSIGNAL":
        (this.config as Record<string, unknown>).StopSignal = only(words(), "STOPSIGNAL");
        break;
      case "HEALTHCHECK":
      case "MAINTAINER":
        break;
      default:
        return false;
    }
    this.advance(keyword, text, this.config, this.env);
    this.#record(`${keyword} ${text}`, true);
    return true;
  }

  #program({ json, text }: Instruction): string[] | null {
    if (json !== undefined) return json.length === 0 ? null : [...json];
    if (text === "") throw wrong("it needs a program");
    return [...this.shell, text];
  }

  /** `a=1 b="2 3"`, or the old form `a 1 2 3`. Values see the variables as they were before the instruction. */
  #pairs(text: string, expand: (word: string) => string, escapeMark: "\\" | "`"): Record<string, string> {
    const words = splitWords(text, escapeMark);
    const [first = ""] = words;
    if (words.length === 0) throw wrong("it needs NAME=VALUE");
    if (!first.includes("=")) {
      if (words.length === 1) throw wrong(`${first} has no value`);
      return { [expand(first)]: expand(text.slice(text.indexOf(first) + first.length).trim()) };
    }
    return Object.fromEntries(
      words.map((word) => {
        const at = word.indexOf("=");
        if (at <= 0) throw wrong(`${word} is no NAME=VALUE`);
        return [expand(word.slice(0, at)), expand(word.slice(at + 1))] as const;
      }),
    );
  }
}

function port(word: string): [string, object] {
  const match = /^(\d{1,5})(-\d{1,5})?(?:\/(tcp|udp|sctp))?$/.exec(word.toLowerCase());
  if (match === null) throw wrong(`${word} is no port`);
  return [`${match[1]}${match[2] ?? ""}/${match[3] ?? "tcp"}`, {}];
}

function only(words: readonly string[], keyword: string): string {
  if (words.length !== 1 || words[0] === "") throw wrong(`${keyword} takes one argument`);
  return words[0]!;
}

export const wrong = (why: string): AleError => new AleError("dockerfile-invalid", why);
