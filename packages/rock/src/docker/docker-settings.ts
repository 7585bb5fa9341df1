import type { SandboxUser } from "../files/users.ts";
import type { ImageConfig } from "../image/local-image.ts";
import type { Settings, SettingsRequest } from "../oci/settings.ts";
import type { SandboxSpec } from "../port/sandbox.ts";

/** As whom, where and with which environment something runs: the image's word, then the spec's, then the request's. */

const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** `own`: the sandbox's own user, whose the workdir and the spec's environment are. */
export function settingsOf(
  spec: SandboxSpec,
  image: ImageConfig,
  users: { readonly asked: SandboxUser; readonly own: SandboxUser },
  request: SettingsRequest,
): Settings {
  const { asked, own } = users;
  const isOwn = asked.uid === own.uid;
  return {
    uid: asked.uid,
    gid: asked.gid,
    groups: [asked.gid, ...asked.groups],
    cwd: request.cwd ?? (isOwn ? workdirOf(spec, image) : "/"),
    env: {
      PATH,
      HOME: asked.home,
      USER: asked.name,
      LOGNAME: asked.name,
      SHELL: "/bin/bash",
      LANG: "C.UTF-8",
      TERM: request.terminal ? "xterm-256color" : "dumb",
      ...image.env,
      ...(isOwn ? spec.env : {}),
      ...request.env,
    },
  };
}

export const workdirOf = (spec: SandboxSpec, image: ImageConfig): string =>
  spec.workdir ?? (image.workdir || "/");
