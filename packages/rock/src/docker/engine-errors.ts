import { AleError } from "@ale/core";
import { z } from "zod";
import { parseJson } from "./engine-text.ts";

/** What an engine refuses, and why it cannot be asked at all, for people. */

/** Some engines repeat the request in their complaint. */
const LONGEST_COMPLAINT = 600;
const Complaint = z.object({ message: z.string() });

export function refused(method: string, path: string, status: number, body: string): AleError {
  const complaint = Complaint.safeParse(parseJson(body));
  const words = (complaint.success ? complaint.data.message : body.trim()).slice(0, LONGEST_COMPLAINT);
  return new AleError(codeOf(status), `the engine refused ${method} ${path} (${status}): ${words}`, {
    next: status >= 500 ? "see the engine's own log" : "see the engine's words above",
  });
}

const CODES: Readonly<Record<number, string>> = {
  400: "engine-bad-request",
  403: "engine-forbidden",
  404: "engine-not-found",
  409: "engine-conflict",
};
const codeOf = (status: number): string => CODES[status] ?? "engine-failed";

export const notAnEngine = (socketPath: string, why: string): AleError =>
  new AleError("engine-unsupported", `what listens at ${socketPath} is no container engine: ${why}`, {
    next: "point DOCKER_HOST at the socket of Docker or Podman",
  });

export function unreachable(socketPath: string, cause: unknown): AleError {
  const { code, message } = cause as NodeJS.ErrnoException;
  if (code === "ENOENT" || code === "ECONNREFUSED")
    return new AleError("engine-missing", `no container engine listens at ${socketPath}`, {
      next: "start Docker (or `podman system service`), or point DOCKER_HOST at its socket",
      cause,
    });
  if (code === "EACCES" || code === "EPERM")
    return new AleError("engine-permission", `you may not use the container engine at ${socketPath}`, {
      next: "add yourself to the group that owns the socket (Docker: `docker`; whoever is in it is root on that host), or use a rootless engine",
      cause,
    });
  if (code?.startsWith("HPE_")) return notAnEngine(socketPath, "it does not speak HTTP");
  return new AleError("engine-gone", `the connection to the engine at ${socketPath} broke: ${message}`, {
    next: "see whether the engine still runs",
    cause,
  });
}
