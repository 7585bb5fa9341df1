import { AleError } from "@ale/core";
import { resolveUser, type SandboxUser } from "../files/users.ts";
import type { DockerFiles } from "./docker-files.ts";

/** Who is who in a sandbox, as its own databases said when they were last read. */
export class DockerUsers {
  readonly #databases = new Map<string, Uint8Array>();
  readonly #default: string;

  /** `fallback`: whom the spec, or else the image, names. */
  constructor(fallback: string) {
    this.#default = fallback;
  }

  async load(files: DockerFiles): Promise<void> {
    for (const path of ["/etc/passwd", "/etc/group"]) {
      const read = await files.readStrictly(path, 2 ** 20);
      if (read.ok) this.#databases.set(path, read.value);
      else this.#databases.delete(path);
    }
  }

  /** Throws an AleError `user-unknown`. */
  resolve(user: string = this.#default): SandboxUser {
    return resolveUser(
      {
        read: (path) => {
          const value = this.#databases.get(path);
          return value === undefined
            ? { ok: false, error: { type: "not-found", path } }
            : { ok: true, value };
        },
      },
      user,
    );
  }

  /** Somebody whom a program of the sandbox has added since is found too. */
  async find(user: string | undefined, files: DockerFiles): Promise<SandboxUser> {
    try {
      return this.resolve(user);
    } catch (reason) {
      if (!(reason instanceof AleError)) throw reason;
      await this.load(files);
      return this.resolve(user);
    }
  }
}
