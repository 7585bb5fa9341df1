import type { Family } from "../family.ts";
import { bash, decide, drawNames, drawNumbers, file, finish, fixed, mutant, noop, taskOf } from "./kit.ts";
import { absent, holds } from "./test-script.ts";

const LEVELS = ["err", "warn", "info"] as const;

/** `move log with err to eel`: find the one log of a level and move or copy it. */
export const sysadmin: Family = {
  id: "sysadmin",
  domain: "system-administration",
  chunks: 3,
  tempting: false,
  make(random, split, seed) {
    const [target, ...names] = drawNames(random, 4) as [string, ...string[]];
    const numbers = drawNumbers(random, 3);
    const logs = LEVELS.map((level, i) => ({ level, name: names[i]!, text: `${level} ${numbers[i]}` }));
    const [wanted, ...others] = random.shuffle(logs) as [
      (typeof logs)[0],
      (typeof logs)[0],
      (typeof logs)[0],
    ];
    const verb = random.pick(["move", "copy"] as const);
    const other = verb === "move" ? "copy" : "move";

    const look = (level: string) => bash(`grep -l ${level} *`);
    const act = (how: "move" | "copy", from: string, to = target) =>
      bash(`${how === "move" ? "mv" : "cp"} ${from} ${to}`);

    return taskOf(
      { family: sysadmin.id, domain: sysadmin.domain, split, seed },
      {
        instruction: `${verb} log with ${wanted.level} to ${target}`,
        files: random.shuffle(logs.map((log) => file(log.name, `${log.text}\n`))),
        checks: [
          holds(target, wanted.text),
          verb === "move" ? absent(wanted.name) : holds(wanted.name, wanted.text),
          ...others.map((log) => holds(log.name, log.text)),
        ],
        plan: [
          fixed(
            look(wanted.level),
            others.map((log) => look(log.level)),
          ),
          (observations) => {
            const found = observations[0]?.match(/[a-z]+/)?.[0] ?? wanted.name;
            return decide(act(verb, found), [act(other, found)]);
          },
          finish,
        ],
        mutants: [
          noop,
          mutant("other-verb", act(other, wanted.name)),
          mutant("other-level", act(verb, others[0].name)),
          mutant("wrong-file", act(verb, wanted.name, others[0].name)),
          mutant("only-text", bash(`echo ${wanted.level} > ${target}`)),
        ],
      },
    );
  },
};
