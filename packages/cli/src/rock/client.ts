import { AleError } from "@ale/core/result";
import { connectLocal, connectRock, type RockClient } from "@ale/rock/client";
import type { Io } from "../io.ts";

/** The server that the commands of `ale rock` talk to: $ALE_ROCK_URL, else the one of this home. */
export async function withRock<T>(io: Io, work: (client: RockClient) => Promise<T>): Promise<T> {
  const client = connect(io);
  try {
    return await work(client);
  } catch (error) {
    throw inCommands(error);
  } finally {
    await client.close();
  }
}

function connect(io: Io): RockClient {
  const { ALE_ROCK_URL: url, ALE_ROCK_TOKEN: token } = io.env;
  if (url !== undefined && url !== "") return connectRock({ url, ...(token === undefined ? {} : { token }) });
  try {
    return connectLocal(io.home);
  } catch (error) {
    if (!(error instanceof AleError) || error.code !== "server-missing") throw error;
    throw new AleError("server-missing", `no server of sandboxes works on ${io.home}`, {
      next: "start one: ale rock serve --detach (or name one: ALE_ROCK_URL and ALE_ROCK_TOKEN)",
      cause: error,
    });
  }
}

/** What a server says to do is said for every client; here it is a command. */
const COMMANDS: Readonly<Record<string, string>> = {
  "list the sandboxes": "ale rock ls --all shows them",
  "list the snapshots": "ale rock snapshot ls shows them",
  "restart it": "ale rock start ID starts it again, with its files",
  "send the header Authorization: Bearer TOKEN": "set ALE_ROCK_TOKEN to a token of that server",
  "choose another id, or delete the sandbox that has it, which may have failed or stopped":
    "choose another, or remove the sandbox that has it: ale rock rm ID (ale rock ls --all shows it)",
  "list the tokens": "ale rock token ls shows them",
  "create a new sandbox": "ale rock create IMAGE makes another",
};

/** Limits have names in the API, and options in commands. */
const OPTIONS: Readonly<Record<string, string>> = {
  "limits.memoryBytes": "--memory",
  "limits.diskBytes": "--disk",
  "limits.cpus": "--cpus",
  "limits.pids": "--pids",
};
const asOptions = (text: string): string =>
  text.replace(/\blimits\.[A-Za-z]+/g, (name) => OPTIONS[name] ?? name);

/** What a server or a library says, in words of commands. */
export function inCommands(error: unknown): unknown {
  if (!(error instanceof AleError)) return error;
  const next = COMMANDS[error.next ?? ""] ?? error.next;
  return new AleError(error.code, asOptions(error.message), {
    ...(next === undefined ? {} : { next: asOptions(next) }),
    cause: error,
  });
}
