import { AleError } from "@ale/core";
import { connectLocal, connectRock, type RockClient } from "@ale/rock/client";
import type { Io } from "../io.ts";

/** The server that the commands of `ale rock` talk to: $ALE_ROCK_URL, else the one of this home. */
export async function withRock<T>(io: Io, work: (client: RockClient) => Promise<T>): Promise<T> {
  const client = connect(io);
  try {
    return await work(client);
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
