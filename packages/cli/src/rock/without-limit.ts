import { usageError } from "../args.ts";

/** Where an ordinary user cannot enforce limits: the option that gives them up by name, for every command that makes sandboxes. */
export const WITHOUT_LIMIT = {
  "without-limit": {
    type: "string",
    value: "NAMES",
    help: "memory,cpu: limits that need not hold where this user cannot enforce them",
  },
} as const;

type Limit = "memory" | "cpu";

/** Throws `usage` on any other name. */
export function unenforced(values: { readonly "without-limit": string | undefined }): readonly Limit[] {
  const names = (values["without-limit"] ?? "").split(",").filter((name) => name !== "");
  return names.map((name): Limit => {
    if (name === "memory" || name === "cpu") return name;
    throw usageError(
      `--without-limit: ${JSON.stringify(name)} is not known`,
      "memory, cpu, or both: memory,cpu",
    );
  });
}
