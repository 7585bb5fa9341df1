import { basename, join } from "node:path";
import { COPIED_NUMBERS, NAMES } from "@ale/bench";
import { AleError, EpisodeIndex, openEpisodeStore, systemClock, systemIds } from "@ale/core";
import { nanoProfile, standardProfile } from "@ale/flow";
import { type Codec, loadCodec, type Upstream } from "@ale/gateway";
import { approvalsOf } from "@ale/guard";
import { BASE_IMAGE, openOciDriver, resolveImage, type SandboxDriver } from "@ale/rock";
import { locateEngine } from "../engine/locate.ts";
import { startEngine } from "../engine/process.ts";
import type { TinkerSession } from "../engine/tinker.ts";
import { connectTinker } from "../engine/tinker-client.ts";
import type { Approvers } from "../recipe/guarding.ts";
import type { Recipe } from "../recipe/recipe.ts";
import type { EpisodeDeps } from "../rollout/episode.ts";
import type { ProgressEvent } from "../stages/context.ts";
import { engineLearner } from "../stages/engine-learner.ts";
import { runRecipe } from "./run.ts";
import type { RunState } from "./run-state.ts";

/**
 * Everything a run needs, opened together and released together: sandboxes, the engine's process, and a session with it. One
 * workbench can carry out several runs, also at the same time.
 */
export interface Workbench extends AsyncDisposable {
  readonly home: string;
  readonly driver: SandboxDriver;
  readonly session: TinkerSession;
  /** Runs a recipe in `<home>/runs/<run>`, or goes on with it. */
  train(recipe: Recipe, request: TrainRequest, signal: AbortSignal): Promise<RunState>;
  /** A sampler of a model's own weights, or of a checkpoint of it. */
  sampler(
    modelDirectory: string,
    checkpoint: string | null,
    version: number,
    signal: AbortSignal,
  ): Promise<Upstream>;
  /** What an episode needs when the policy comes from a model directory. */
  episodeDeps(modelDirectory: string, episodesDirectory: string): Promise<EpisodeDeps>;
}

export interface TrainRequest {
  readonly run: string;
  /** Absolute path of the model that the recipe starts from. */
  readonly modelDirectory: string;
  /** What the recipe's rule packs are relative to. Default: the working directory. */
  readonly recipeDirectory?: string;
  /** Who approves calls where the recipe asks for it. Default: whoever answers the approvals of the home. */
  readonly approvers?: Approvers;
  /** Engine path of weights to begin with instead of the model's own. */
  readonly startFrom?: string;
  readonly onProgress: (event: ProgressEvent) => void;
}

export interface WorkbenchOptions {
  readonly home: string;
  /** Model directories that the engine offers; the name of each in the engine is its path. */
  readonly modelDirectories: readonly string[];
  /** Where the engine keeps checkpoints. */
  readonly stateDir: string;
  readonly threads?: number;
  /** Limits that need not hold where the host cannot enforce them (see the driver's option). */
  readonly unenforced?: readonly ("memory" | "cpu")[];
  /** Where the model gateway is, for sandboxes that may reach it. */
  readonly egress?: { readonly modelGateway?: { readonly host: string; readonly port: number } };
}

export const runDirectory = (home: string, run: string): string => join(home, "runs", run);

/** Fails with what is missing: see `OciDriver` and `startEngine`. Sandboxes that a crashed owner left are removed first. */
export async function openWorkbench(options: WorkbenchOptions, signal?: AbortSignal): Promise<Workbench> {
  const { home } = options;
  const located = locateEngine(home);
  if (!located.ok) throw located.error;
  // Told before the engine takes its seconds to start, and before a run leaves anything behind.
  resolveImage(home, BASE_IMAGE);
  await using cleanup = new AsyncDisposableStack();
  const driver = cleanup.use(
    openOciDriver({ home, unenforced: options.unenforced ?? [], egress: options.egress ?? {} }),
  );
  await driver.reap();
  const engine = await startEngine(
    {
      python: located.value.python,
      models: Object.fromEntries(options.modelDirectories.map((directory, i) => [modelName(i), directory])),
      stateDir: options.stateDir,
      threads: options.threads ?? 1,
      logPath: join(home, "logs", "engine.log"),
    },
    signal,
  );
  cleanup.defer(() => engine.stop());
  const client = connectTinker({ baseUrl: engine.baseUrl, died: engine.died });
  cleanup.defer(() => client.close());
  const session = await client.createSession(signal);
  const nameOf = (directory: string): string => {
    const index = options.modelDirectories.indexOf(directory);
    if (index >= 0) return modelName(index);
    throw new AleError("model-unknown", `the engine was not started with the model ${directory}`);
  };
  const owned = cleanup.move();

  const episodeDeps = async (modelDirectory: string, episodesDirectory: string): Promise<EpisodeDeps> => {
    const codec = await loadCodec(modelDirectory);
    return {
      driver,
      codec,
      profile: profileOf(codec),
      store: await openEpisodeStore(episodesDirectory),
      clock: systemClock,
      ids: systemIds,
    };
  };
  const openModel = (directory: string, checkpoint: string | null, seed: number, openSignal: AbortSignal) =>
    checkpoint === null
      ? session.createModel({ baseModel: nameOf(directory), rank: 0, seed }, openSignal)
      : session.loadModel(checkpoint, true, openSignal);
  return {
    home,
    driver,
    session,
    episodeDeps,
    async sampler(modelDirectory, checkpoint, version, sampleSignal) {
      const model = await openModel(modelDirectory, checkpoint, 0, sampleSignal);
      return engineLearner(model, basename(modelDirectory)).sampler(version, sampleSignal);
    },
    async train(recipe, request, trainSignal) {
      const directory = runDirectory(home, request.run);
      const deps = await episodeDeps(request.modelDirectory, join(directory, "episodes"));
      const open = async (checkpoint: string | null, openSignal: AbortSignal) => {
        const model = await openModel(request.modelDirectory, checkpoint, recipe.seed, openSignal);
        return engineLearner(model, recipe.name);
      };
      const interchangeable = [NAMES, COPIED_NUMBERS].map((group) =>
        group.flatMap((word) => deps.codec.encode(word)),
      );
      const state = await runRecipe(
        {
          approvers: (timeoutMs) => approvalsOf(home, timeoutMs),
          ...request,
          recipe,
          directory,
          interchangeable,
        },
        { ...deps, open },
        trainSignal,
      );
      (await EpisodeIndex.open(join(directory, "index.sqlite"), deps.store)).close();
      return state;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

const modelName = (index: number): string => `base-${index}`;

/** Models whose tokenizer has the nano control tokens speak the compact format, all others Qwen3's. */
const profileOf = (codec: Codec) =>
  codec.controlToken("<|act|>") === undefined
    ? standardProfile(codec.chatTemplateSha256)
    : nanoProfile(codec.chatTemplateSha256);
