/**
 * Paths of which a change means something by itself: what starts again without being asked, what stands in for another program, what
 * decides how a result comes about. Everything else that a sandbox writes is its work, and is in its snapshots.
 */

const PLACES = [
  // Configuration of the system: schedules, services, profiles, users, the loader.
  /^\/etc\//,
  /^\/var\/spool\/cron(?:\/|$)/,
  // What a shell, a login or a person's services read.
  /^\/(?:root|home\/[^/]+)\/\.[^/]+$/,
  /^\/(?:root|home\/[^/]+)\/\.(?:ssh|aws|kube|docker|config\/(?:systemd|autostart|pip|git))(?:\/|$)/,
  // Programs before those of the system.
  /^\/usr\/local\/s?bin\//,
  // What a language reads before its program.
  /\/(?:sitecustomize|usercustomize)\.py$/,
  /\/site-packages\/[^/]+\.pth$/,
  /\/\.git\/hooks\/[^/]+$/,
  // What decides about the result.
  /^\/(?:tests|solution|oracle|logs\/verifier)(?:\/|$)/,
  /\/(?:conftest\.py|pytest\.ini|tox\.ini|jest\.config\.[cm]?[jt]s|vitest\.config\.[cm]?[jt]s)$/,
  // Traces of what was done.
  /^\/var\/log\//,
] as const;

/** Made anew for each sandbox by its runtime. */
const NOT_ITS_OWN = new Set(["/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/mtab"]);

export const isPlace = (path: string): boolean =>
  !NOT_ITS_OWN.has(path) && PLACES.some((pattern) => pattern.test(path));
