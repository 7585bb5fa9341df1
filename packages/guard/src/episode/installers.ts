import type { Telemetry } from "@ale/core";

/**
 * Programs that put others into the system, with services, profiles and shims of theirs. Files do not tell who changed them: what changes while
 * a call runs such a program is most likely its work, and rules judge it more mildly (`context.installing`).
 */
const NAMES =
  "apt|apt-get|aptitude|dpkg|dpkg-deb|rpm|dnf|yum|apk|pacman|pip[\\d.]*|pipx|uv|poetry|conda|mamba|npm|pnpm|yarn|corepack|gem|bundle|cargo|rustup|useradd|adduser|update-alternatives";
const PROGRAM = new RegExp(`^(?:${NAMES})$`);
const COMMAND = new RegExp(
  `^(?:\\S*/)?(?:(?:${NAMES})|(?:python[\\d.]*|node)\\s+(?:-m\\s+|\\S*/)(?:${NAMES}|venv|virtualenv))(?:\\s|$)`,
);

export const isInstaller = (program: string): boolean => PROGRAM.test(program);

export const runsInstaller = ({ kind, process }: Telemetry): boolean =>
  kind === "process.exec" && process?.command !== undefined && COMMAND.test(process.command);
