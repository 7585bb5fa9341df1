import { parseByteSize, type SandboxCreate } from "@ale/rock/client";
import { defineUsage, parseArguments, usageError, wholeNumber } from "../args.ts";
import type { Command } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { withRock } from "../rock/client.ts";
import { pairs, parseDuration } from "../rock/format.ts";

const usage = defineUsage({
  positionals: "IMAGE",
  options: {
    id: { type: "string", value: "ID", help: "what to call it (default: a fresh id)" },
    cpus: { type: "string", value: "N", help: "processors, e.g. 0.5 (default 1)" },
    memory: { type: "string", value: "SIZE", help: "e.g. 512m or 2g (default 512m)" },
    disk: { type: "string", value: "SIZE", help: "of its writable layer (default 1g)" },
    pids: { type: "string", value: "N", help: "processes at once (default 256)" },
    lifetime: { type: "string", value: "TIME", help: "ends after so long, e.g. 30m (default 1d)" },
    idle: { type: "string", value: "TIME", help: "ends when nothing was asked of it for so long" },
    env: { type: "string", short: "e", multiple: true, value: "K=V", help: "environment; may be repeated" },
    label: { type: "string", short: "l", multiple: true, value: "K=V", help: "for you to find it by" },
    user: { type: "string", short: "u", value: "USER", help: "whom programs run as (default: the image's)" },
    workdir: { type: "string", short: "w", value: "DIR", help: "made and given to the user" },
  },
  notes: `
Prints its id. It lives on the server until it is removed, its lifetime is over, or it idles too long.
example: box=$(ale rock create ale/base --memory 1g); ale rock exec $box -- uname -a; ale rock rm $box`,
});

export const rockCreate: Command = {
  name: "rock create",
  summary: "make a sandbox and print its id",
  usage,
  async run(argv, io, signal) {
    const { values, positionals } = parseArguments(usage, argv);
    const request = requestOf(positionals[0]!, values);
    return withRock(io, async (client) => {
      io.progress.status(`creating a sandbox of ${request.image}`);
      const sandbox = await client.sandboxes.create(request, signal);
      io.print(sandbox.id);
      if (io.json) io.result(await client.sandboxes.get(sandbox.id));
      return EXIT.ok;
    });
  },
};

function requestOf(
  image: string,
  values: ReturnType<typeof parseArguments<typeof usage.options>>["values"],
): SandboxCreate {
  const cpus = values.cpus === undefined ? undefined : Number(values.cpus);
  if (cpus !== undefined && !(cpus > 0)) throw usageError(`--cpus: ${values.cpus} is no number above 0`);
  const limits = defined({
    cpus,
    memoryBytes: size("--memory", values.memory),
    diskBytes: size("--disk", values.disk),
    pids: wholeNumber("--pids", values.pids, { min: 1 }),
    lifetimeMs: parseDuration("--lifetime", values.lifetime),
  });
  return {
    image,
    limits,
    ...defined({
      id: values.id,
      user: values.user,
      workdir: values.workdir,
      idleMs: parseDuration("--idle", values.idle),
      env: pairs("--env", values.env),
      labels: pairs("--label", values.label),
    }),
  };
}

/** The server reads it; here it is only refused by the name that it was given under. */
function size(name: string, text: string | undefined): string | undefined {
  if (text === undefined || parseByteSize(text) !== undefined) return text;
  throw usageError(`${name}: ${JSON.stringify(text)} is no size`, "write it as 512m, 8g or 64KiB");
}

function defined<T extends object>(options: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as never;
}
