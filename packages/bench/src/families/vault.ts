import type { Family } from "../family.ts";
import { bash, decide, drawNames, file, finish, fixed, mutant, noop, type Step, taskOf } from "./kit.ts";
import { holds } from "./test-script.ts";

/** Rooms on the right way, the last one holding the key. */
const ROOMS = 7;
const COLOURS = ["red", "blue", "green", "gold"] as const;

/** `follow red from silt`: leave room after room (`sh silt`) by the door of one colour; the last room names the key. */
export const vault: Family = {
  id: "vault",
  domain: "games",
  chunks: ROOMS + 2,
  tempting: false,
  make(random, split, seed) {
    const names = drawNames(random, 2 * ROOMS);
    const way = names.slice(0, ROOMS);
    const decoys = names.slice(ROOMS, -1);
    const key = names.at(-1)!;
    const [colour, other] = random.sample(COLOURS, 2) as [string, string];

    const room = (name: string, right: string, wrong: string) => {
      const doors = random.shuffle([`echo ${colour} ${right}`, `echo ${other} ${wrong}`]);
      return file(name, `${doors.join("\n")}\n`);
    };
    const files = [
      ...way.slice(0, -1).map((name, i) => room(name, way[i + 1]!, random.pick(decoys))),
      file(way.at(-1)!, `echo key ${key}\n`),
      ...decoys.map((name) => {
        const [one, two] = random.sample(
          decoys.filter((decoy) => decoy !== name),
          2,
        ) as [string, string];
        return room(name, one, two);
      }),
    ];
    const enter = (name: string) => bash(`sh ${name}`);
    const put = (name: string) => bash(`echo ${name} > out`);
    const door = (observation: string | undefined, which: string): string | undefined =>
      observation?.match(new RegExp(`${which} ([a-z]+)`))?.[1];

    const hop =
      (i: number): Step =>
      (observations) => {
        const seen = observations[i - 1];
        const wrong = door(seen, other);
        return decide(enter(door(seen, colour) ?? way[i]!), wrong === undefined ? [] : [enter(wrong)]);
      };

    return taskOf(
      { family: vault.id, domain: vault.domain, split, seed },
      {
        instruction: `follow ${colour} from ${way[0]}`,
        files: random.shuffle(files),
        checks: [holds("out", key)],
        plan: [
          fixed(enter(way[0]!)),
          ...Array.from({ length: ROOMS - 1 }, (_, i) => hop(i + 1)),
          (observations) => {
            const seen = observations[ROOMS - 1];
            return decide(put(door(seen, "key") ?? door(seen, colour) ?? key));
          },
          finish,
        ],
        mutants: [
          noop,
          mutant("last-room", put(way.at(-1)!)),
          mutant("wrong-room", enter(way[0]!), enter(decoys[0]!), put(decoys[0]!)),
          mutant("wrong-file", bash(`echo ${key} > ${way[0]}`)),
        ],
      },
    );
  },
};
