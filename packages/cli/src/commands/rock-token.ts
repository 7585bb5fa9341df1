import { SCOPES, type Scope, TokenStore, tokensFile } from "@ale/rock/server";
import { defineUsage, oneOf, parseArguments } from "../args.ts";
import type { Action } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import type { Io } from "../io.ts";
import { parseDuration } from "../rock/format.ts";
import { table } from "../table.ts";

/** Who may use the server of this home. They work on the home itself, so that a token can be there before the first start. */

const createUsage = defineUsage({
  positionals: "",
  options: {
    tenant: { type: "string", value: "NAME", help: "whose sandboxes it sees (default: local)" },
    scope: {
      type: "string",
      multiple: true,
      value: "SCOPE",
      help: `${SCOPES.join(", ")}; may be repeated (default: all but admin)`,
    },
    expires: { type: "string", value: "TIME", help: "e.g. 12h or 30d (default: never)" },
  },
});

export const create: Action = {
  usage: createUsage,
  async run(argv, io) {
    const { values } = parseArguments(createUsage, argv);
    const scopes = values.scope?.map((scope) => oneOf("--scope", scope, SCOPES)!) ?? defaultScopes();
    const expires = parseDuration("--expires", values.expires);
    const made = storeOf(io).create({
      tenant: values.tenant ?? "local",
      scopes,
      ...(expires === undefined ? {} : { expiresAtMs: Date.now() + expires }),
    });
    io.print(made.token);
    io.note(`token ${made.id}; it is kept nowhere: note it down`);
    io.result(made);
    return EXIT.ok;
  },
};

const defaultScopes = (): Scope[] => SCOPES.filter((scope) => scope !== "admin");

const listUsage = defineUsage({ positionals: "", options: {} });

export const list: Action = {
  usage: listUsage,
  async run(argv, io) {
    parseArguments(listUsage, argv);
    const tokens = storeOf(io).list();
    const rows = tokens.map((token) => [
      token.id,
      token.tenant,
      token.scopes.join(","),
      token.expiresAtMs == null ? "never" : new Date(token.expiresAtMs).toISOString(),
    ]);
    const [head = "", ...body] = table(
      [{ title: "token" }, { title: "tenant" }, { title: "scopes" }, { title: "expires" }],
      rows,
    );
    if (rows.length === 0) io.print("no tokens");
    else for (const line of [io.paint("dim", head), ...body]) io.print(line);
    io.result({ tokens });
    return EXIT.ok;
  },
};

const removeUsage = defineUsage({ positionals: "TOKEN-ID...", options: {} });

export const remove: Action = {
  usage: removeUsage,
  async run(argv, io) {
    const { positionals } = parseArguments(removeUsage, argv);
    const store = storeOf(io);
    for (const id of positionals) store.revoke(id);
    for (const id of positionals) io.print(id);
    io.result({ revoked: positionals });
    return EXIT.ok;
  },
};

const storeOf = (io: Io): TokenStore => new TokenStore(tokensFile(io.home));
