import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { AleError } from "@ale/core";

/** Where container engines listen. */

export interface SocketHost {
  readonly platform: NodeJS.Platform;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly home: string;
  readonly uid: number;
  readonly exists: (path: string) => boolean;
}

const thisHost = (): SocketHost => ({
  platform: process.platform,
  env: process.env,
  home: homedir(),
  uid: process.getuid?.() ?? 0,
  exists: existsSync,
});

/** $DOCKER_HOST if it is set, else the first usual place that exists. Throws an AleError. */
export function findSocket(host: SocketHost = thisHost()): string {
  const named = host.env.DOCKER_HOST;
  if (named !== undefined && named !== "") return unixPath(named);
  const found = usualPlaces(host).find(host.exists);
  if (found !== undefined) return found;
  throw new AleError("engine-missing", "no container engine was found", {
    next:
      host.platform === "darwin"
        ? "start Docker Desktop, colima or `podman machine`, or set DOCKER_HOST=unix:///path/to/socket"
        : "start Docker or `systemctl start podman.socket`, or set DOCKER_HOST=unix:///path/to/socket",
  });
}

function unixPath(address: string): string {
  if (address.startsWith("unix://")) return address.slice("unix://".length);
  if (address.startsWith("/")) return address;
  throw new AleError("engine-unsupported", `DOCKER_HOST=${address} is no unix socket`, {
    // An engine behind TCP is root on its host for whoever reaches the port.
    next: "use unix:///path/to/socket; reach a remote engine through `ssh -L /tmp/engine.sock:/var/run/docker.sock`",
  });
}

export function usualPlaces(host: SocketHost): string[] {
  const runtime = host.env.XDG_RUNTIME_DIR ?? `/run/user/${host.uid}`;
  const own =
    host.platform === "darwin"
      ? [
          join(host.home, ".docker/run/docker.sock"),
          join(host.home, ".colima/default/docker.sock"),
          join(host.home, ".colima/docker.sock"),
          join(host.home, ".local/share/containers/podman/machine/podman.sock"),
          join(host.home, ".local/share/containers/podman/machine/qemu/podman.sock"),
          join(host.home, ".rd/docker.sock"),
          join(host.home, ".orbstack/run/docker.sock"),
        ]
      : [
          join(runtime, "docker.sock"),
          join(runtime, "podman/podman.sock"),
          join(host.home, ".docker/desktop/docker.sock"),
        ];
  const shared = ["/var/run/docker.sock", "/run/podman/podman.sock"];
  // Root's own engine is the machine's; a user's own one needs no group that is root in all but name.
  return host.platform === "darwin" || host.uid !== 0 ? [...own, ...shared] : [...shared, ...own];
}
