import { mkdirSync, statfsSync } from "node:fs";
import { join } from "node:path";
import type { AppPlugin } from "../server/app.ts";
import { e2bApi } from "./e2b/plugin.ts";
import { envHubApi } from "./envhub/plugin.ts";
import { EnvHubStore } from "./envhub/store.ts";
import { guessTheNumber } from "./gem/guess.ts";
import { gemApi } from "./gem/plugin.ts";
import { GemRegistry } from "./gem/registry.ts";
import { sokoban } from "./gem/sokoban.ts";
import type { RockOptions } from "./rock/context.ts";
import { rockApi } from "./rock/plugin.ts";

/** Every API that other clients speak, ready to be put into a server beside the native one. */

export interface CompatApiOptions extends RockOptions {
  /** The server's home: named environments are kept below it. */
  readonly home: string;
  /** The environments that can be played. Default: the games that come with it. */
  readonly environments?: GemRegistry;
  /** Of the default named environment. Default: python:3.11. */
  readonly defaultImage?: string;
}

/** Throws where the table of named environments cannot be opened. It is closed with the server. */
export function compatApis(options: CompatApiOptions): readonly AppPlugin[] {
  const { home, environments = builtInGames(), defaultImage, ...rock } = options;
  const directory = join(home, "rock");
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const store = new EnvHubStore(
    join(directory, "envhub.db"),
    defaultImage === undefined ? {} : { defaultImage },
  );
  const common = rock.anonymous === undefined ? {} : { anonymous: rock.anonymous };
  const closeStore: AppPlugin = (app) => {
    app.addHook("onClose", async () => store[Symbol.dispose]());
  };
  return [
    rockApi({ freeDiskBytes: () => freeBytes(directory), ...rock }),
    gemApi(environments, common),
    envHubApi(store, common),
    e2bApi(common),
    closeStore,
  ];
}

function freeBytes(directory: string): number {
  const { bavail, bsize } = statfsSync(directory);
  return bavail * bsize;
}

/** A registry with the games that come with it; programs add their own. */
export function builtInGames(): GemRegistry {
  const registry = new GemRegistry().register(guessTheNumber);
  for (const environment of sokoban) registry.register(environment);
  return registry;
}
