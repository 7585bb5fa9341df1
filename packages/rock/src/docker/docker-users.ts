import { AleError, type Result } from "@ale/core";
import { resolveUser, type SandboxUser } from "../files/users.ts";
import type { ImageConfig } from "../image/local-image.ts";
import { ownUser, type Settings, type SettingsRequest, settingsFor } from "../oci/settings.ts";
import type { FileError } from "../port/files.ts";
import type { SandboxSpec } from "../port/sandbox.ts";
import type { DockerFiles } from "./docker-files.ts";

/** Who is who in a sandbox, as its own databases said when they were last read. */
export class DockerUsers {
  readonly #databases = new Map<string, Uint8Array>();
  readonly #spec: SandboxSpec;
  readonly #config: ImageConfig;

  constructor(spec: SandboxSpec, config: ImageConfig) {
    this.#spec = spec;
    this.#config = config;
  }

  async load(files: DockerFiles): Promise<void> {
    for (const path of ["/etc/passwd", "/etc/group"]) {
      const read = await files.readStrictly(path, 2 ** 20);
      if (read.ok) this.#databases.set(path, read.value);
      else this.#databases.delete(path);
    }
  }

  /** As it was loaded. */
  read(path: string): Result<Uint8Array, FileError> {
    const value = this.#databases.get(path);
    return value === undefined ? { ok: false, error: { type: "not-found", path } } : { ok: true, value };
  }

  /** Throws an AleError `user-unknown`. */
  settings(request: SettingsRequest): Settings {
    return settingsFor({ spec: this.#spec, config: this.#config, files: this }, request);
  }

  #resolve(user: string | undefined): SandboxUser {
    return user === undefined
      ? ownUser({ spec: this.#spec, config: this.#config, files: this })
      : resolveUser(this, user);
  }

  /** Somebody whom a program of the sandbox has added since is found too. Throws an AleError `user-unknown`. */
  async find(user: string | undefined, files: DockerFiles): Promise<SandboxUser> {
    try {
      return this.#resolve(user);
    } catch (reason) {
      if (!(reason instanceof AleError)) throw reason;
      await this.load(files);
      return this.#resolve(user);
    }
  }
}
