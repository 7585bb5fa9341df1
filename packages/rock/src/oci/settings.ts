import { AleError } from "@ale/core";
import { AGENT } from "../image/bootstrap.ts";
import type { SandboxSpec } from "../port/sandbox.ts";

/** As whom, where and with which environment something runs in a sandbox: from the image, the spec and the request. */

export interface Settings {
  readonly uid: number;
  readonly gid: number;
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

const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** Throws an AleError `user-unknown`. */
export function settingsFor(spec: SandboxSpec, request: SettingsRequest): Settings {
  const isRoot = (request.user ?? spec.user) === "root";
  const user = isRoot ? { uid: 0, gid: 0, name: "root", home: "/root" } : AGENT;
  if (!isRoot && ![undefined, "agent"].includes(request.user ?? spec.user))
    throw new AleError("user-unknown", `the sandbox has no user ${request.user}`, {
      next: "use root or agent",
    });
  return {
    uid: user.uid,
    gid: user.gid,
    groups: [user.gid],
    cwd: request.cwd ?? (isRoot ? "/" : (spec.workdir ?? "/")),
    env: {
      PATH,
      HOME: user.home,
      USER: user.name,
      LOGNAME: user.name,
      SHELL: "/bin/bash",
      LANG: "C.UTF-8",
      TERM: request.terminal ? "xterm-256color" : "dumb",
      ...(isRoot ? {} : spec.env),
      ...request.env,
    },
  };
}

/** As PID 1 reads it. */
export const identityField = ({ uid, gid, groups }: Settings): string => `${uid} ${gid} ${groups.join(",")}`;
