import type { Result } from "@ale/core";
import { resolveUser, type SandboxUser } from "../files/users.ts";
import type { ImageConfig } from "../image/local-image.ts";
import type { FileError } from "../port/files.ts";
import type { SandboxSpec } from "../port/sandbox.ts";

/** As whom, where and with which environment something runs in a sandbox: from the image, the spec and the request. */

export interface Settings {
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups. */
  readonly groups: readonly number[];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
}

export interface SettingsRequest {
  readonly user?: string | undefined;
  readonly cwd?: string | undefined;
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** Its output goes to a terminal. */
  readonly terminal?: boolean;
}

/** What settings are made from. */
export interface SettingsSource {
  readonly spec: Pick<SandboxSpec, "user" | "workdir" | "env">;
  readonly config: Pick<ImageConfig, "user" | "workdir" | "env">;
  /** The sandbox's files: its own /etc/passwd and /etc/group say who a name is. */
  readonly files: { read(path: string, maxBytes: number): Result<Uint8Array, FileError> };
}

const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** Whom sessions and programs run as where nobody says otherwise. Throws an AleError `user-unknown`. */
export function ownUser({ spec, config, files }: SettingsSource): SandboxUser {
  return resolveUser(files, ownName({ spec, config }));
}

/** The same as it was written: a name or a number. */
export const ownName = ({ spec, config }: Omit<SettingsSource, "files">): string =>
  spec.user ?? (config.user === "" ? "root" : config.user);

/** Where they run where nobody says otherwise. */
export const ownDirectory = ({ spec, config }: Omit<SettingsSource, "files">): string =>
  spec.workdir ?? (config.workdir === "" ? "/" : config.workdir);

/** Of the environment, the image's goes below the spec's, and that below the request's. Throws an AleError `user-unknown`. */
export function settingsFor(source: SettingsSource, request: SettingsRequest): Settings {
  const { spec, config, files } = source;
  const user = resolveUser(files, request.user ?? ownName(source));
  // Root that looks after another user's sandbox has no business in that user's directory.
  const isKeeper = user.uid === 0 && !isRoot(ownName(source));
  return {
    uid: user.uid,
    gid: user.gid,
    groups: user.groups,
    cwd: request.cwd ?? (isKeeper ? "/" : ownDirectory(source)),
    env: {
      PATH,
      HOME: user.home,
      USER: user.name,
      LOGNAME: user.name,
      SHELL: /\/(nologin|false)$/.test(user.shell) ? "/bin/sh" : user.shell,
      LANG: "C.UTF-8",
      TERM: request.terminal === true ? "xterm-256color" : "dumb",
      ...config.env,
      ...spec.env,
      ...request.env,
    },
  };
}

const isRoot = (name: string): boolean => /^(root|0)(:|$)/.test(name);

/** As PID 1 reads it. */
export const identityField = ({ uid, gid, groups }: Settings): string => `${uid} ${gid} ${groups.join(",")}`;
