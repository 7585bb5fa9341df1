import { AleError } from "@ale/core/result";
import type { RockClient } from "@ale/rock/client";
import { defineUsage, parseArguments, usageError } from "../args.ts";
import type { Action } from "../command.ts";
import { EXIT, exitCodeOf } from "../exit-codes.ts";
import type { Io } from "../io.ts";
import { inCommands, withRock } from "../rock/client.ts";

/** The end of sandboxes, and their beginning again. */

const usage = defineUsage({ positionals: "ID...", options: {} });

export const stop: Action = {
  usage,
  run: (argv, io) =>
    each(parseArguments(usage, argv).positionals, io, (client, id) => client.sandboxes.stop(id)),
};

export const start: Action = {
  usage,
  run: (argv, io) =>
    each(parseArguments(usage, argv).positionals, io, async (client, id) => {
      const { state } = await client.sandboxes.get(id);
      if (state === "running") io.note(`${id} runs already`);
      else await client.sandboxes.restart(id);
    }),
};

const removeUsage = defineUsage({
  positionals: "[ID...]",
  options: { all: { type: "boolean", help: "every sandbox of yours; asks for --yes" } },
});

export const remove: Action = {
  usage: removeUsage,
  async run(argv, io) {
    const { values, positionals } = parseArguments(removeUsage, argv);
    if (values.all === positionals.length > 0)
      throw usageError("name sandboxes, or say --all", "ale rock ls --all shows them");
    if (values.all && !io.yes)
      throw usageError("--all removes every sandbox with its files", "say so: ale rock rm --all --yes");
    const ids = values.all
      ? await withRock(io, async (client) => (await client.sandboxes.list()).map(({ id }) => id))
      : positionals;
    return each(ids, io, (client, id) => client.sandboxes.delete(id));
  },
};

/** All of them, also where one fails; the exit code is the first failure's. */
async function each(
  ids: readonly string[],
  io: Io,
  work: (client: RockClient, id: string) => Promise<unknown>,
): Promise<number> {
  const failures: { id: string; code: string; message: string }[] = [];
  let exitCode: number = EXIT.ok;
  await withRock(io, async (client) => {
    for (const id of ids) {
      try {
        await work(client, id);
        io.print(id);
      } catch (thrown) {
        const error = inCommands(thrown);
        if (!(error instanceof AleError)) throw error;
        if (exitCode === EXIT.ok) exitCode = exitCodeOf(error);
        failures.push({ id, code: error.code, message: error.message });
        const about = error.message.includes(id) ? "" : `${id}: `;
        io.note(`${io.paint("red", "error:")} ${about}${error.message}`);
        if (error.next !== undefined) io.note(`${io.paint("cyan", "next: ")} ${error.next}`);
      }
    }
  });
  const done = ids.filter((id) => !failures.some((failure) => failure.id === id));
  io.result({ ok: failures.length === 0, exitCode, done, failures });
  return exitCode;
}
