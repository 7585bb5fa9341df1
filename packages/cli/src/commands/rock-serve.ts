import { familyEnvironments } from "@ale/bench";
import { AleError } from "@ale/core";
import { approvalsOf } from "@ale/guard";
import { type PullProgress, pullImage, resolveImage } from "@ale/rock";
import { builtInGames, compatApis } from "@ale/rock/compat";
import {
  type RockServer,
  type SandboxState,
  type ServeOptions,
  serveRock,
  stopServer,
} from "@ale/rock/server";
import { defineUsage, parseArguments, usageError, wholeNumber } from "../args.ts";
import type { Action } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import type { Io } from "../io.ts";
import { MODEL_GATEWAY_OPTION, modelGatewayOption } from "../network-options.ts";
import { readPem } from "../pem.ts";
import { approvalsApi } from "../rock/approvals-api.ts";
import { startDetached, tellStarter } from "../rock/detached-server.ts";
import { duration } from "../rock/format.ts";
import { unenforced, WITHOUT_LIMIT } from "../rock/without-limit.ts";

const usage = defineUsage({
  positionals: "",
  options: {
    host: { type: "string", value: "ADDRESS", help: "where it listens (default 127.0.0.1)" },
    port: { type: "string", short: "p", value: "PORT", help: "default 4180; 0: any free one" },
    "tls-key": { type: "string", value: "FILE", help: "private key, PEM" },
    "tls-cert": { type: "string", value: "FILE", help: "certificate, PEM" },
    ...WITHOUT_LIMIT,
    "model-gateway": MODEL_GATEWAY_OPTION,
    "allow-open-network": {
      type: "boolean",
      help: "whoever may make sandboxes may give them the whole internet, from this machine's address",
    },
    "allow-private-addresses": {
      type: "boolean",
      help: "…and may name addresses of private networks and of this machine itself",
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
    stop: { type: "boolean", help: "end this home's server; returns when it has" },
  },
  notes: `
One server a home. It listens on this machine only unless told otherwise, and beyond it never without a token. The first start
prints an administrator's token, once; the commands of this home need none. Besides its own API, in which administrators also
answer the approvals of this home, it speaks ROCK's (admin and proxy, GEM, EnvHub) and E2B's. Ctrl-C or SIGTERM is how it ends, with exit code 0: its
sandboxes stop and keep their files; ale rock start starts them again.
example: ale rock serve --detach; ale rock create ale/base`,
});

type Values = ReturnType<typeof parseArguments<typeof usage.options>>["values"];

export const rockServe: Action = {
  usage,
  endsBySignal: true,
  async run(argv, io, signal) {
    const { values } = parseArguments(usage, argv);
    if (values.stop) return stop(argv, io, signal);
    if (values.detach) return detach(argv, io, signal);
    const startedAt = Date.now();
    const server = await serveRock(optionsOf(values, io, signal));
    const live = liveAtTheEnd(server, signal);
    io.print(`serving sandboxes at ${io.paint("bold", server.url)}`);
    const { url, firstToken } = server;
    const warning = await shortcomings(server);
    if (!tellStarter(server, warning)) {
      warn(warning, io);
      showToken(firstToken, io);
      io.row({ ok: true, url, ...(firstToken ? { token: firstToken } : {}) });
    }
    await server.closed;
    const seconds = Math.round((Date.now() - startedAt) / 1_000);
    const left = live();
    io.print(`served for ${duration(seconds * 1_000)}; ${farewell(left)}`);
    io.result({ url, seconds, ...left });
    return EXIT.ok;
  },
};

interface Left {
  /** Ended now, with their files. */
  readonly stopped: readonly string[];
  /** Ended now, where nothing of them could be kept. */
  readonly removed: readonly string[];
  /** That they ended is not known. */
  readonly unsure: readonly string[];
}

/** What becomes of the sandboxes that were there when the server was told to end. */
function liveAtTheEnd({ service }: RockServer, signal: AbortSignal): () => Left {
  let live: readonly string[] = [];
  const isLive = (state: SandboxState): boolean => state === "pending" || state === "running";
  const look = (): void => {
    live = service.everything().flatMap(({ id, state }) => (isLive(state) ? [id] : []));
  };
  signal.addEventListener("abort", look, { once: true });
  return () => {
    const states = new Map(service.everything().map(({ id, state }) => [id, state]));
    const now = (wanted: (state: SandboxState | undefined) => boolean): string[] =>
      live.filter((id) => wanted(states.get(id)));
    return {
      stopped: now((state) => state === "stopped"),
      removed: now((state) => state === undefined || state === "deleted"),
      unsure: now((state) => state === "failed" || (state !== undefined && isLive(state))),
    };
  };
}

function farewell({ stopped, removed, unsure }: Left): string {
  const said = [
    ...(stopped.length > 0
      ? [`${count(stopped)} stopped, files kept: ale rock start ID starts one again`]
      : []),
    ...(removed.length > 0 ? [`${count(removed)} ended`] : []),
    ...(unsure.length > 0 ? [`${count(unsure)} may not have ended: ale rock gc clears up`] : []),
  ];
  return said.length === 0 ? "no sandbox was running" : said.join("; ");
}

const count = (ids: readonly string[]): string => `${ids.length} sandbox${ids.length === 1 ? "" : "es"}`;

/** Said at once, and not when the first sandbox is refused or the last one is gone. Undefined where there is nothing to say. */
async function shortcomings(server: RockServer): Promise<string | undefined> {
  const { rootless } = await server.service.driver.capabilities();
  return rootless
    ? "sandboxes and snapshots of an ordinary user lie in memory, and end with the server"
    : undefined;
}

function warn(warning: string | undefined, io: Io): void {
  if (warning !== undefined) io.note(`${io.paint("yellow", "warning:")} ${warning}`);
}

/** It is kept nowhere. */
function showToken(token: string | undefined, io: Io): void {
  if (token !== undefined) io.print(`administrator's token, shown this once: ${io.paint("bold", token)}`);
}

async function detach(argv: readonly string[], io: Io, signal: AbortSignal): Promise<number> {
  const words = argv.filter((word) => word !== "--detach" && word !== "-d");
  const server = await startDetached(io.home, words, signal);
  io.print(`serving sandboxes at ${io.paint("bold", server.url)}, process ${server.pid}`);
  warn(server.warning, io);
  showToken(server.token, io);
  io.note(`its log: ${server.log}`);
  io.result(server);
  return EXIT.ok;
}

/** To have no server is what was asked for. */
async function stop(argv: readonly string[], io: Io, signal: AbortSignal): Promise<number> {
  if (argv.length > 1) throw usageError("--stop goes with no other option of ale rock serve");
  const served = await stopServer(io.home, signal);
  if (served === undefined) io.print("no server works on this home");
  else io.print(`ended process ${served.owner.pid}, which served ${served.url ?? io.home}`);
  io.result({ stopped: served === undefined ? null : { pid: served.owner.pid, url: served.url } });
  return EXIT.ok;
}

function optionsOf(values: Values, io: Io, signal: AbortSignal): ServeOptions {
  const { home } = io;
  const port = wholeNumber("--port", values.port, { max: 65_535 });
  if ((values["tls-key"] === undefined) !== (values["tls-cert"] === undefined))
    throw new AleError("usage", "--tls-key and --tls-cert belong together");
  const tls =
    values["tls-key"] === undefined
      ? {}
      : { tls: { key: readPem(values["tls-key"]), cert: readPem(values["tls-cert"]!) } };
  return {
    home,
    ...(values.host === undefined ? {} : { host: values.host }),
    ...(port === undefined ? {} : { port }),
    ...tls,
    unenforced: unenforced(values),
    egress: modelGatewayOption(values["model-gateway"]),
    network: boundsOf(values),
    insecureHttp: values["insecure-http"],
    ...(values["trust-local"] ? { trustLocal: { tenant: "local" } } : {}),
    ...(values.pull ? { ensureImage: pullMissing(home) } : {}),
    plugins: [
      approvalsApi(approvalsOf(home)),
      ...compatApis({
        home,
        anonymous: values["rock-anonymous"],
        quirks: values["rock-quirks"],
        environments: builtInGames().addSource(familyEnvironments()),
        warmup: async (image) => {
          await pullImage(home, image);
        },
      }),
    ],
    signal,
  };
}

const boundsOf = (values: Values): NonNullable<ServeOptions["network"]> => ({
  modes: ["none", "allowlist", "gateway-only", ...(values["allow-open-network"] ? (["open"] as const) : [])],
  privateAddresses: values["allow-private-addresses"] ?? false,
});

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
