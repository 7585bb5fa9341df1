import { accessSync, constants } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { AleError, err, ok, type Result } from "@ale/core";

/** Where the engine's Python lives. Setup makes a virtual environment in ALE's home; a developer may point at another one. */

export interface EngineLocation {
  /** Interpreter of a virtual environment that has the engine's requirements. */
  readonly python: string;
  /** Directory that holds the package `ale_engine`. */
  readonly sources: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** The repository's engine/ directory. */
export const ENGINE_SOURCES = resolve(import.meta.dirname, "../../../../engine");

/** `ALE_HOME`, else `~/.ale`. */
export const engineHome = (environment: Environment = process.env): string =>
  environment.ALE_HOME || join(homedir(), ".ale");

/**
 * `ALE_ENGINE_PYTHON`, else `<home>/engine/venv/bin/python`. Only looks whether the file can be executed; whether the engine
 * can be imported is found out by starting it. Fails with `engine-missing`.
 */
export function locateEngine(
  home: string = engineHome(),
  environment: Environment = process.env,
): Result<EngineLocation, AleError> {
  const chosen = environment.ALE_ENGINE_PYTHON;
  const python = chosen || join(home, "engine", "venv", "bin", "python");
  try {
    accessSync(python, constants.X_OK);
    return ok({ python, sources: ENGINE_SOURCES });
  } catch (cause) {
    const refused = (cause as NodeJS.ErrnoException).code === "EACCES";
    const what = refused
      ? `the engine's Python ${python} may not be run by this user (it, or a folder above it, is closed to others)`
      : `there is no Python for the engine at ${python}`;
    const error = new AleError("engine-missing", what, {
      next: chosen
        ? "ALE_ENGINE_PYTHON names it: correct or unset that variable"
        : "run ./quickstart or `./ale setup engine`, which make it",
      cause,
    });
    return err(error);
  }
}
