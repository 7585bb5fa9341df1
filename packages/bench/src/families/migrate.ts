import type { Family } from "../family.ts";
import {
  drawNames,
  drawNumbers,
  edit,
  file,
  finish,
  fixed,
  mutant,
  noop,
  read,
  taskOf,
  write,
} from "./kit.ts";
import { SETTINGS } from "./swe.ts";
import { holds } from "./test-script.ts";

const FILES = 4;

/** `set port to 46 in moss newt kite lion`: the same change in four files, each read and edited in turn. */
export const migrate: Family = {
  id: "migrate",
  domain: "software-engineering",
  chunks: 2 * FILES + 1,
  tempting: false,
  make(random, split, seed) {
    const paths = drawNames(random, FILES);
    const [key, other] = random.sample(SETTINGS, 2) as [string, string];
    const [wanted, ...numbers] = drawNumbers(random, 1 + 2 * FILES) as [number, ...number[]];
    const files = paths.map((path, i) => {
      const rows = random.shuffle([
        { key, value: numbers[2 * i]! },
        { key: other, value: numbers[2 * i + 1]! },
      ]);
      const text = (values: typeof rows) => `${values.map((row) => `${row.key} ${row.value}`).join("\n")}\n`;
      return {
        path,
        before: text(rows),
        after: text(rows.map((row) => (row.key === key ? { key, value: wanted } : row))),
        right: edit(path, `${key} ${numbers[2 * i]}`, `${key} ${wanted}`),
        wrong: edit(path, `${other} ${numbers[2 * i + 1]}`, `${other} ${wanted}`),
        stale: edit(path, `${key} ${numbers[2 * i]}`, `${key} ${numbers[2 * i + 1]}`),
      };
    });

    return taskOf(
      { family: migrate.id, domain: migrate.domain, split, seed },
      {
        instruction: `set ${key} to ${wanted} in ${paths.join(" ")}`,
        files: files.map((one) => file(one.path, one.before)),
        checks: files.map((one) => holds(one.path, one.after)),
        plan: [...files.flatMap((one) => [fixed(read(one.path)), fixed(one.right, [one.wrong])]), finish],
        mutants: [
          noop,
          mutant("one-left-out", ...files.slice(0, -1).map((one) => one.right)),
          mutant("other-setting", ...files.slice(0, -1).map((one) => one.right), files.at(-1)!.wrong),
          mutant("other-value", ...files.slice(0, -1).map((one) => one.right), files.at(-1)!.stale),
          mutant("wrong-file", ...files.map((one) => write(files[0]!.path, one.after))),
        ],
      },
    );
  },
};
