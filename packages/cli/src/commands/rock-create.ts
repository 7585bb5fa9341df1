import { SANDBOX_ID, type SandboxCreate } from "@ale/rock/client";
import { defineUsage, parseArguments, usageError } from "../args.ts";
import type { Action } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { withRock } from "../rock/client.ts";
import { pairs, parseDuration } from "../rock/format.ts";
import { defined, LIMIT_OPTIONS, limitsOf } from "../rock/limits.ts";
import { NETWORK_OPTIONS, networkAsked } from "../rock/network.ts";

const usage = defineUsage({
  positionals: "IMAGE",
  options: {
    id: { type: "string", value: "ID", help: "what to call it (default: a fresh id)" },
    ...LIMIT_OPTIONS,
    ...NETWORK_OPTIONS,
    idle: { type: "string", value: "TIME", help: "ends when nothing was asked of it for so long" },
    env: { type: "string", short: "e", multiple: true, value: "K=V", help: "environment; may be repeated" },
    label: { type: "string", short: "l", multiple: true, value: "K=V", help: "for you to find it by" },
    user: { type: "string", short: "u", value: "USER", help: "whom programs run as (default: the image's)" },
    workdir: { type: "string", short: "w", value: "DIR", help: "made and given to the user" },
  },
  notes: `
Prints its id. Unless told otherwise it has 1 processor, 512m of memory, 1g of disk, 256 processes, a day, and no network. It lives on the server until it is removed, its lifetime is over, or it idles too long.
example: box=$(ale rock create ale/base --memory 1g); ale rock exec $box -- uname -a; ale rock rm $box`,
});

export const rockCreate: Action = {
  usage,
  async run(argv, io, signal) {
    const { values, positionals } = parseArguments(usage, argv);
    const network = await networkAsked(values, io);
    const request = { ...requestOf(positionals[0]!, values), ...defined({ network }) };
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
  return {
    image,
    limits: limitsOf(values),
    ...defined({
      id: sandboxId(values.id),
      user: values.user,
      workdir: directory(values.workdir),
      idleMs: parseDuration("--idle", values.idle),
      env: pairs("--env", values.env),
      labels: pairs("--label", values.label),
    }),
  };
}

function sandboxId(id: string | undefined): string | undefined {
  if (id === undefined || SANDBOX_ID.test(id)) return id;
  throw usageError(
    `--id: ${JSON.stringify(id)} cannot be a sandbox's id`,
    "use 1 to 63 lower-case letters, digits and hyphens, the first one no hyphen",
  );
}

function directory(path: string | undefined): string | undefined {
  if (path === undefined || path.startsWith("/")) return path;
  throw usageError(
    `--workdir: ${JSON.stringify(path)} is no absolute path`,
    `a directory in the sandbox, such as /${path}`,
  );
}
