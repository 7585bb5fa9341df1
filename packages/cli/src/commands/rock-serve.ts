import { spawn } from "node:child_process";
import { mkdirSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { familyEnvironments } from "@ale/bench";
import { AleError } from "@ale/core";
import { builtInGames, compatApis, type PullProgress, pullImage, resolveImage } from "@ale/rock";
import { findServer, type ServeOptions, serveRock } from "@ale/rock/server";
import { defineUsage, parseArguments, wholeNumber } from "../args.ts";
import type { Command } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import type { Io } from "../io.ts";

const usage = defineUsage({
  positionals: "",
  options: {
    host: { type: "string", value: "ADDRESS", help: "where it listens (default 127.0.0.1)" },
    port: { type: "string", short: "p", value: "PORT", help: "default 4180; 0: any free one" },
    "tls-key": { type: "string", value: "FILE", help: "private key, PEM" },
    "tls-cert": { type: "string", value: "FILE", help: "certificate, PEM" },
    "without-limit": {
      type: "string",
      value: "NAMES",
      help: "memory,cpu: limits that need not hold where this user cannot enforce them",
    },
    "insecure-http": {
      type: "boolean",
      help: "beyond this machine without TLS: tokens and files can be read",
    },
    "trust-local": {
      type: "boolean",
      help: "calls without a token are allowed, from every user and program of this machine",
    },
    "rock-anonymous": {
      type: "boolean",
      help: "clients of ROCK, GEM, EnvHub and E2B on this machine need no token; they share one tenant",
    },
    "rock-quirks": { type: "boolean", help: "what only ROCK's own tests want of a server" },
    pull: { type: "boolean", help: "an image that is not here is pulled when a sandbox asks for it" },
    detach: { type: "boolean", short: "d", help: "in the background; returns when it listens" },
  },
  notes: `
One server a home. It listens on this machine only unless told otherwise, and beyond it never without a token. The first start
prints an administrator's token, once; the commands of this home need none. Besides its own API it speaks ROCK's (admin and
proxy, GEM, EnvHub) and E2B's. When it ends, its sandboxes stop and keep their files; ale rock start starts them again.
example: ale rock serve --detach; ale rock create ale/base`,
});

type Values = ReturnType<typeof parseArguments<typeof usage.options>>["values"];

export const rockServe: Command = {
  name: "rock serve",
  summary: "serve sandboxes to this machine and others",
  usage,
  async run(argv, io, signal) {
    const { values } = parseArguments(usage, argv);
    if (values.detach) return detach(argv, io, signal);
    const server = await serveRock(optionsOf(values, io, signal));
    io.print(`serving sandboxes at ${io.paint("bold", server.url)}`);
    if (server.firstToken !== undefined)
      io.print(`administrator's token, shown this once: ${io.paint("bold", server.firstToken)}`);
    io.result({ url: server.url, ...(server.firstToken ? { token: server.firstToken } : {}) });
    await server.closed;
    return EXIT.ok;
  },
};

function unenforced(names: string | undefined): ("memory" | "cpu")[] {
  return (names ?? "").split(",").flatMap((name) => {
    if (name === "memory" || name === "cpu") return [name];
    if (name === "") return [];
    throw new AleError("usage", `--without-limit knows memory and cpu, not ${name}`);
  });
}

function optionsOf(values: Values, io: Io, signal: AbortSignal): ServeOptions {
  const { home } = io;
  const port = wholeNumber("--port", values.port, { max: 65_535 });
  if ((values["tls-key"] === undefined) !== (values["tls-cert"] === undefined))
    throw new AleError("usage", "--tls-key and --tls-cert belong together");
  const tls =
    values["tls-key"] === undefined
      ? {}
      : { tls: { key: pem(values["tls-key"]), cert: pem(values["tls-cert"]!) } };
  return {
    home,
    ...(values.host === undefined ? {} : { host: values.host }),
    ...(port === undefined ? {} : { port }),
    ...tls,
    unenforced: unenforced(values["without-limit"]),
    insecureHttp: values["insecure-http"],
    ...(values["trust-local"] ? { trustLocal: { tenant: "local" } } : {}),
    ...(values.pull ? { ensureImage: pullMissing(home) } : {}),
    plugins: compatApis({
      home,
      anonymous: values["rock-anonymous"],
      quirks: values["rock-quirks"],
      environments: builtInGames().addSource(familyEnvironments()),
      warmup: async (image) => {
        await pullImage(home, image);
      },
    }),
    signal,
  };
}

/** With no one's credentials: the image will be everybody's who may use this server. */
const pullMissing =
  (home: string): NonNullable<ServeOptions["ensureImage"]> =>
  async (image, progress, signal) => {
    if (hasImage(home, image)) return;
    const onProgress = ({ type, doneBytes, totalBytes }: PullProgress): void =>
      progress(`${type} ${doneBytes} of ${totalBytes} bytes`);
    await pullImage(home, image, { dockerConfig: null, onProgress }, signal);
  };

function hasImage(home: string, image: string): boolean {
  try {
    resolveImage(home, image);
    return true;
  } catch {
    return false;
  }
}

function pem(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw new AleError("usage", `${path} cannot be read`, { cause });
  }
}

const START_MS = 60_000;

async function detach(argv: readonly string[], io: Io, signal: AbortSignal): Promise<number> {
  const running = findServer(io.home);
  if (running?.url != null)
    throw new AleError("already-served", `a server works on ${io.home} already: ${running.url}`, {
      next: `use it, or end it: kill ${running.owner.pid}`,
    });
  mkdirSync(join(io.home, "logs"), { recursive: true });
  const log = join(io.home, "logs", "rock-serve.log");
  const fd = openSync(log, "a", 0o600);
  const words = argv.filter((word) => word !== "--detach" && word !== "-d");
  const main = join(import.meta.dirname, "..", "main.ts");
  const child = spawn(
    process.execPath,
    [...process.execArgv, main, "--home", io.home, "rock", "serve", ...words],
    { detached: true, stdio: ["ignore", fd, fd] },
  );
  let exitCode: number | null | undefined;
  child.once("exit", (code) => {
    exitCode = code ?? EXIT.environment;
  });
  const deadline = performance.now() + START_MS;
  for (;;) {
    const served = findServer(io.home);
    if (served?.url != null) {
      child.unref();
      io.print(`serving sandboxes at ${io.paint("bold", served.url)}, process ${served.owner.pid}`);
      io.note(`its log, with the administrator's token of the first start: ${log}`);
      io.result({ url: served.url, pid: served.owner.pid, log });
      return EXIT.ok;
    }
    if (exitCode != null) throw startFailure(log, exitCode);
    if (performance.now() > deadline || signal.aborted) {
      child.kill("SIGTERM");
      throw new AleError("server-start-failed", "the server did not start in time", { next: `read ${log}` });
    }
    await sleep(25);
  }
}

/** In its own words, which end its log. */
function startFailure(log: string, exitCode: number): AleError {
  const lines = readFileSync(log, "utf8").trimEnd().split("\n");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colour codes begin with one
  const plain = lines.map((line) => line.replace(/\u001b\[[0-9;]*m/g, ""));
  const message = plain.findLast((line) => line.startsWith("error: "))?.slice("error: ".length);
  const next = plain
    .findLast((line) => line.startsWith("next:"))
    ?.slice("next:".length)
    .trim();
  return new AleError("server-start-failed", message ?? `the server ended with exit code ${exitCode}`, {
    next: next ?? `read ${log}`,
  });
}
